import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { readStream } from "../support/load.ts";
import { attemptsSeen, simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

let simulation: Simulation;
let gateway: Gateway;

before(async () => {
  // Long enough to the first token that the second request surely comes before it.
  const speed = { kind: "cloud", ttftMs: 3_000, ttftSigma: 0, itlMs: 1, itlSigma: 0 } as const;
  simulation = await startSimulation([simulatedBackend("only", "vllm", 1, speed)]);
  const only = { ...(simulation.backends["only"] as object), concurrency: { mode: "fixed", max: 1 } };
  gateway = await startGateway({
    topology: "embedded",
    config: {
      backends: { only },
      models: { chat: { candidates: ["only"] } },
      classes: { batch: { ceiling: 1 }, interactive: { max_wait: "30s" } },
    },
  });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
});

async function stream(id: string, priority: string, ended: string[]): Promise<string> {
  const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": id, "x-signalbox-priority": priority },
    body: JSON.stringify({ model: "chat", stream: true, messages: [{ role: "user", content: `[sim tokens=5] ${id}` }] }),
  });
  const text = await answer.text();
  ended.push(id);
  return text;
}

test("an interactive request takes the place of a batch request without content, which is answered afterwards", async () => {
  const ended: string[] = [];
  const batch = stream("patient", "batch", ended);
  while (attemptsSeen(simulation) < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const urgent = stream("urgent", "interactive", ended);
  const [late, soon] = await Promise.all([batch, urgent]);
  assert.deepEqual(ended, ["urgent", "patient"]);
  for (const text of [late, soon]) assert.equal(readStream(text).ending, "complete", text);
  const entries = await gateway.entriesAtLeast(3);
  const words = entries.map((entry) => `${entry.request_id} ${entry.outcome} ${(entry as unknown as { purpose: string }).purpose}`);
  assert.deepEqual(words.toSorted(), ["patient canceled waste_preempted", "patient ok billed", "urgent ok billed"]);
});
