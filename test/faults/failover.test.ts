import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { FaultKind } from "#simulator/index.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { endings, sendLoad } from "../support/load.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Requests per fault: five faults make the 10,000 of the acceptance list. */
const REQUESTS = 2_000;
const NAMES = ["one", "two", "three", "four"] as const;

let gateway: Gateway;
let simulation: Simulation;

before(async () => {
  // The failing one is the cheapest, so that it would get everything.
  simulation = await startSimulation([
    simulatedBackend("one", "openai", 1),
    simulatedBackend("two", "openai", 2),
    simulatedBackend("three", "anthropic", 2),
    simulatedBackend("four", "vllm", 2),
  ]);
  gateway = await startGateway({
    topology: "embedded",
    config: {
      backends: simulation.backends,
      models: { chat: { candidates: [...NAMES], sla: { deadline: "60s" } } },
      resilience: { timeouts: { connect: "500ms", first_token: "1s", idle_stream: "5s" } },
    },
  });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
});

const KINDS: readonly FaultKind[] = ["error", "reset", "blackhole", "429-rate", "cut_before_first"];

for (const kind of KINDS) {
  test(`${REQUESTS} requests with one of four backends failing (${kind}): no client sees an error`, async (t) => {
    simulation.simulator.clear();
    simulation.simulator.fault("one", kind);
    const lines = await sendLoad({ api: gateway.api, count: REQUESTS, concurrency: 32, model: "chat" });
    const bad = lines.filter(({ ending }) => ending !== "complete");
    const attempts = lines.reduce((sum, line) => sum + line.attempts, 0);
    t.diagnostic(`${kind}: ${REQUESTS} requests, ${bad.length} visible errors, ${(attempts / REQUESTS).toFixed(3)} attempts each`);
    assert.deepEqual(endings(bad), {});
    assert.ok(lines.every(({ backend }) => backend !== "one" || kind === "cut_before_first"));
  });
}

test("streams cut after the first token all end with an error event, none is truncated silently", async (t) => {
  for (const kind of ["cut", "rst_after", "malformed", "error_event"] as const) {
    simulation.simulator.clear();
    for (const name of NAMES) simulation.simulator.fault(name, kind, { afterTokens: 5 });
    const lines = await sendLoad({
      api: gateway.api,
      count: 250,
      concurrency: 16,
      model: "chat",
      isStream: () => true,
      prompt: (index) => `[sim tokens=40] story ${index}`,
    });
    t.diagnostic(`${kind}: ${JSON.stringify(endings(lines))}`);
    const silent = lines.filter(({ ending }) => ending === "truncated" || ending === "wrong_content" || ending === "broken");
    assert.deepEqual(endings(silent), {}, kind);
    assert.ok(
      lines.some(({ ending }) => ending === "error_event"),
      kind,
    );
    assert.ok(
      lines.every(({ ending, code }) => ending !== "error_event" || code === "stream_interrupted"),
      kind,
    );
  }
  simulation.simulator.clear();
});
