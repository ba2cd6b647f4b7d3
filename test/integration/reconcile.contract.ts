import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { startGateway, type Gateway, type TopologyName } from "../support/gateway.ts";
import { endings, sendLoad } from "../support/load.ts";
import { reconcile, type ReconcilePrice } from "../support/reconcile.ts";
import { simulatedBackend, startSimulation, attemptsSeen, type Simulation } from "../support/simulated.ts";

const NAMES = ["money-openai", "money-claude", "money-vllm"] as const;

/** Client log x simulator invoice x ledger over mixed requests: streams, aborts, failures, retries. */
export function reconcileSuite(topology: TopologyName, requests: number, disturb?: (gateway: Gateway, done: number) => void): void {
  let gateway: Gateway;
  let simulation: Simulation;
  const costs: Readonly<Record<(typeof NAMES)[number], number>> = { "money-openai": 1, "money-claude": 1.04, "money-vllm": 1.08 };
  const prices = new Map<string, ReconcilePrice>(
    NAMES.map((name) => [
      name,
      { input: costs[name], cacheRead: costs[name] / 10, cacheWrite: costs[name] * 1.25, output: costs[name] * 4 },
    ]),
  );

  before(async () => {
    simulation = await startSimulation([
      simulatedBackend("money-openai", "openai", costs["money-openai"]),
      simulatedBackend("money-claude", "anthropic", costs["money-claude"]),
      simulatedBackend("money-vllm", "vllm", costs["money-vllm"]),
    ]);
    gateway = await startGateway({ topology, config: { backends: simulation.backends, models: { chat: { candidates: [...NAMES] } } } });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  test(`${requests} mixed requests, ${topology}: client log, invoice and ledger agree to the nano-dollar`, async (t: TestContext) => {
    simulation.simulator.fault("money-openai", "error", { p: 0.05 });
    simulation.simulator.fault("money-claude", "cut", { p: 0.02, afterTokens: 4 });
    // The third never fails, so that no request can run out of backends.
    simulation.simulator.fault("money-openai", "429-rate", { p: 0.03 });
    const lines = await sendLoad({
      api: gateway.api,
      count: requests,
      concurrency: 24,
      model: "chat",
      aborts: (index) => index % 29 === 1,
      onAnswer: (_line, done) => disturb?.(gateway, done),
    });
    simulation.simulator.clear();
    const failed = lines.filter(({ ending }) => ending !== "complete" && ending !== "error_event" && ending !== "aborted");
    assert.deepEqual(endings(failed), {}, "no request failed");
    const calls = simulation.simulator.calls().length;
    const entries = await gateway.entriesAtLeast(attemptsSeen(simulation));
    const result = reconcile(simulation.simulator.invoice(), entries, prices);
    t.diagnostic(
      `${topology}: ${requests} requests ${JSON.stringify(endings(lines))}, ${calls} upstream calls, ${result.billed} billed, ${result.entries} entries, ${result.estimated} estimated, ${result.lost.length} lost, ${result.duplicate.length} duplicate, ${result.wrong.length} wrong; invoice ${result.invoiceNanoUsd} nano-USD, ledger ${result.ledgerNanoUsd}`,
    );
    assert.deepEqual(result.lost.slice(0, 5), [], "lost");
    assert.deepEqual(result.duplicate.slice(0, 5), [], "duplicate");
    assert.deepEqual(result.wrong.slice(0, 5), [], "wrong");
    assert.deepEqual(result.unmarked.slice(0, 5), [], "not stated, not marked");
    assert.equal(result.ledgerNanoUsd, result.invoiceNanoUsd);
  });
}
