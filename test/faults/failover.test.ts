import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { FaultKind } from "#simulator/index.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { endings, sendLoad } from "../support/load.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Requests per fault: five faults make the 10,000 of the acceptance list. */
const REQUESTS = 2_000;
const NAMES = ["one", "two", "three", "four"] as const;

let simulation: Simulation;

before(async () => {
  // The failing one is the cheapest, so that it would get everything.
  const backends = [
    simulatedBackend("one", "openai", 1),
    simulatedBackend("two", "openai", 2),
    simulatedBackend("three", "anthropic", 2),
    simulatedBackend("four", "vllm", 2),
  ];
  simulation = await startSimulation(backends);
});

after(() => simulation?.stop());

/** A gateway of its own, so that no breaker remembers the fault before. */
async function withGateway(resilience: Readonly<Record<string, unknown>>, use: (gateway: Gateway) => Promise<void>): Promise<void> {
  simulation.simulator.clear();
  simulation.simulator.forget();
  const models = { chat: { candidates: [...NAMES], sla: { deadline: "60s" } } };
  const timeouts = { connect: "500ms", first_token: "1s", idle_stream: "5s" };
  const gateway = await startGateway({
    topology: "embedded",
    config: { backends: simulation.backends, models, resilience: { timeouts, ...resilience } },
  });
  try {
    await use(gateway);
  } finally {
    await gateway.stop();
  }
}

const KINDS: readonly FaultKind[] = ["error", "reset", "blackhole", "429-rate", "cut_before_first"];

for (const kind of KINDS) {
  test(`${REQUESTS} requests with one of four backends failing (${kind}): no client sees an error`, () =>
    withGateway({}, async (gateway) => {
      const { simulator } = simulation;
      simulator.fault("one", kind);
      const lines = await sendLoad({ api: gateway.api, count: REQUESTS, concurrency: 32, model: "chat" });
      const bad = lines.filter(({ ending }) => ending !== "complete");
      const calls = simulator.calls().filter(({ path }) => /completions|messages/.test(path)).length;
      const struck = simulator.calls().filter(({ backend, faults }) => backend === "one" && faults !== "").length;
      console.log(
        `${kind}: ${REQUESTS} requests, ${bad.length} visible errors, ${(calls / REQUESTS).toFixed(3)} upstream calls each, ${struck} of them at the failing backend`,
      );
      assert.deepEqual(endings(bad), {});
      assert.ok(struck > 0, "the failing backend was tried");
      assert.ok(calls <= 1.2 * REQUESTS, `${calls} calls`);
    }));
}

test("streams cut after the first token all end with an error event, none is truncated silently", async () => {
  // A breaker that never opens: every request meets the fault.
  const breaker = { consecutive: 1_000_000, success_rate: "1%", min_requests: 1_000_000 };
  await withGateway({ breaker }, async (gateway) => {
    for (const kind of ["cut", "rst_after", "malformed", "error_event"] as const) {
      simulation.simulator.clear();
      for (const name of NAMES) simulation.simulator.fault(name, kind, { afterTokens: 5, p: 0.5 });
      const lines = await sendLoad({
        api: gateway.api,
        count: 500,
        concurrency: 16,
        model: "chat",
        isStream: () => true,
        prompt: (index) => `[sim tokens=40] story ${index}`,
      });
      console.log(`${kind}: ${JSON.stringify(endings(lines))}`);
      const silent = lines.filter(({ ending }) => ending === "truncated" || ending === "wrong_content" || ending === "broken");
      assert.deepEqual(endings(silent), {}, kind);
      const cut = lines.filter(({ ending }) => ending === "error_event");
      assert.ok(cut.length > 100, `${kind}: ${cut.length} cut`);
      assert.ok(
        cut.every(({ code }) => code === "stream_interrupted"),
        kind,
      );
    }
  });
});
