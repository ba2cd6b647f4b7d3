import assert from "node:assert/strict";
import type { Gateway } from "./gateway.ts";
import { readStream } from "./load.ts";
import { attemptsSeen, simulatedBackend, type SimulatedBackend, type Simulation } from "./simulated.ts";

/** A backend with room for one. */
export const LONE: SimulatedBackend = simulatedBackend("lone", "vllm", 1);

/** The configuration of a model over {@link LONE} alone, in which batch work may take its place. */
export function lonely(simulation: Simulation) {
  return {
    backends: { lone: { ...(simulation.backends["lone"] as object), concurrency: { mode: "fixed", max: 1 } } },
    models: { lone: { candidates: ["lone"] } },
    classes: { batch: { ceiling: 1 }, interactive: { max_wait: "30s" } },
  };
}

async function stream(gateway: Gateway, id: string, priority: string): Promise<string> {
  const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-request-id": id, "x-signalbox-priority": priority },
    body: JSON.stringify({ model: "lone", stream: true, messages: [{ role: "user", content: `[sim tokens=5] ${id}` }] }),
  });
  return answer.text();
}

/**
 * Sends a batch request whose first content never comes and, once it is upstream, an interactive one; asserts who went upstream when and
 * what is booked. `between` runs before the interactive one is sent.
 */
export async function assertBatchYields(gateway: Gateway, simulation: Simulation, between: () => void = () => {}): Promise<void> {
  const before = attemptsSeen(simulation);
  const booked = (await gateway.entries()).length;
  const [patient, urgent] = [`patient-${before}`, `urgent-${before}`];
  simulation.simulator.fault("lone", "stall", { afterTokens: 0, count: 1 });
  const batch = stream(gateway, patient, "batch");
  while (attemptsSeen(simulation) <= before) await new Promise((resolve) => setTimeout(resolve, 5));
  between();
  const interactive = stream(gateway, urgent, "interactive");
  for (const text of await Promise.all([batch, interactive])) assert.equal(readStream(text).ending, "complete", text);
  const entries = await gateway.entriesAtLeast(booked + 3);
  const own = entries.filter(({ request_id: id }) => id === patient || id === urgent);
  const words = own.map((entry) => `${entry.request_id} ${entry.outcome} ${(entry as unknown as { purpose: string }).purpose}`);
  assert.deepEqual(words.toSorted(), [`${patient} canceled waste_preempted`, `${patient} ok billed`, `${urgent} ok billed`]);
  const requests = new Map(own.map((entry) => [entry.attempt_id, entry.request_id]));
  const calls = simulation.simulator.calls().map(({ client_request_id: attempt }) => requests.get(attempt));
  assert.deepEqual(
    calls.filter((id) => id !== undefined),
    [patient, urgent, patient],
  );
}
