import assert from "node:assert/strict";
import type { Gateway } from "./gateway.ts";
import { readStream } from "./load.ts";
import { attemptsSeen, simulatedBackend, type SimulatedBackend, type Simulation } from "./simulated.ts";

/** A backend with room for one whose first token comes so late that a second request surely comes before it. */
export const LONE: SimulatedBackend = simulatedBackend("lone", "vllm", 1, {
  kind: "cloud",
  ttftMs: 3_000,
  ttftSigma: 0,
  itlMs: 1,
  itlSigma: 0,
});

/** The configuration of a model over {@link LONE} alone, in which batch work may take its place. */
export function lonely(simulation: Simulation) {
  return {
    backends: { lone: { ...(simulation.backends["lone"] as object), concurrency: { mode: "fixed", max: 1 } } },
    models: { lone: { candidates: ["lone"] } },
    classes: { batch: { ceiling: 1 }, interactive: { max_wait: "30s" } },
  };
}

async function stream(gateway: Gateway, id: string, priority: string, ended: string[]): Promise<string> {
  const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": id, "x-signalbox-priority": priority },
    body: JSON.stringify({ model: "lone", stream: true, messages: [{ role: "user", content: `[sim tokens=5] ${id}` }] }),
  });
  const text = await answer.text();
  ended.push(id);
  return text;
}

/**
 * Sends a batch request and, once it is upstream, an interactive one; asserts who is answered first and what is booked. `between` runs
 * before the interactive one is sent.
 */
export async function assertBatchYields(gateway: Gateway, simulation: Simulation, between: () => void = () => {}): Promise<void> {
  const ended: string[] = [];
  const before = attemptsSeen(simulation);
  const booked = (await gateway.entries()).length;
  const [patient, urgent] = [`patient-${before}`, `urgent-${before}`];
  const batch = stream(gateway, patient, "batch", ended);
  while (attemptsSeen(simulation) <= before) await new Promise((resolve) => setTimeout(resolve, 5));
  between();
  const interactive = stream(gateway, urgent, "interactive", ended);
  const [late, soon] = await Promise.all([batch, interactive]);
  assert.deepEqual(ended, [urgent, patient]);
  for (const text of [late, soon]) assert.equal(readStream(text).ending, "complete", text);
  const entries = await gateway.entriesAtLeast(booked + 3);
  const own = entries.filter(({ request_id: id }) => id === patient || id === urgent);
  const words = own.map((entry) => `${entry.request_id} ${entry.outcome} ${(entry as unknown as { purpose: string }).purpose}`);
  assert.deepEqual(words.toSorted(), [`${patient} canceled waste_preempted`, `${patient} ok billed`, `${urgent} ok billed`]);
}
