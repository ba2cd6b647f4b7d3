import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { systemClock } from "#libs/clock/index.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Requests per second and length of the load, ms; the rollback comes in its middle. */
const RPS = 60;
const LOAD_MS = 3_000;

/** A rollback holds everywhere within this, embedded, ms. */
const EFFECTIVE_MS = 500;

const MODEL = "chat";

let simulation: Simulation;
let gateway: Gateway;

before(async () => {
  simulation = await startSimulation([simulatedBackend("a", "openai", 1), simulatedBackend("b", "openai", 1)]);
  gateway = await startGateway({
    topology: "embedded",
    config: { backends: simulation.backends, models: { [MODEL]: { candidates: ["a", "b"] } } },
  });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
});

interface Answered {
  readonly sentAtMs: number;
  readonly status: number;
  readonly backend: string | null;
  readonly experiment: string | null;
}

async function ask(user: string): Promise<Answered> {
  const sentAtMs = systemClock.monotonicMs();
  const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: MODEL, user, max_tokens: 8, messages: [{ role: "user", content: `hello from ${user}` }] }),
  });
  await answer.arrayBuffer();
  const header = (name: string): string | null => answer.headers.get(name);
  return { sentAtMs, status: answer.status, backend: header("x-signalbox-backend"), experiment: header("x-signalbox-experiment") };
}

/** Sends requests of ever new users at a steady pace until `untilMs`. */
async function load(prefix: string, untilMs: number): Promise<Answered[]> {
  const asked: Promise<Answered>[] = [];
  while (systemClock.monotonicMs() < untilMs) {
    asked.push(ask(`${prefix}-${asked.length}`));
    await systemClock.sleep(1_000 / RPS);
  }
  return Promise.all(asked);
}

test("a rollback under load is complete within half a second and fails nobody", async (t) => {
  const started = await gateway.adminCall("POST", "/api/experiments", {
    name: "cheap",
    model: MODEL,
    arms: [{ name: "b", weight: 0.5, backends: ["b"] }],
  });
  assert.equal(started.status, 200, JSON.stringify(started.json));
  const untilMs = systemClock.monotonicMs() + LOAD_MS;
  const running = load("u", untilMs);
  await systemClock.sleep(LOAD_MS / 2);
  const calledAtMs = systemClock.monotonicMs();
  const rolledBack = await gateway.adminCall("POST", "/api/experiments/cheap/rollback", { reason: "test", by: "kim", wait_ms: 10_000 });
  const replicas = rolledBack.json["replicas"] as { readonly role: string; readonly confirmed: boolean; readonly after_ms: number }[];
  t.diagnostic(`confirmed after ${replicas.map(({ role, after_ms: ms }) => `${role} ${ms} ms`).join(", ")}`);
  assert.deepEqual(
    replicas.map(({ role, confirmed }) => [role, confirmed]),
    [
      ["ingress", true],
      ["policy-engine", true],
    ],
  );
  assert.deepEqual([rolledBack.json["state"], rolledBack.json["revision"]], ["rolled_back", 2]);
  const answers = await running;
  assert.deepEqual(
    answers.filter(({ status }) => status !== 200),
    [],
  );
  const before = answers.filter(({ sentAtMs }) => sentAtMs < calledAtMs);
  const inB = before.filter(({ backend }) => backend === "b");
  assert.ok(inB.length > before.length / 4 && inB.length < (before.length * 3) / 4, `${inB.length} of ${before.length}`);
  assert.ok(inB.every(({ experiment }) => experiment === "cheap=b"));
  const late = answers.filter(({ sentAtMs, backend }) => backend === "b" && sentAtMs >= calledAtMs);
  const lastMs = Math.max(0, ...late.map(({ sentAtMs }) => sentAtMs - calledAtMs));
  t.diagnostic(`last request to b ${lastMs.toFixed(0)} ms after the rollback, ${answers.length} requests`);
  assert.ok(lastMs <= EFFECTIVE_MS);
  assert.ok(answers.some(({ sentAtMs }) => sentAtMs > calledAtMs + EFFECTIVE_MS));
  await gateway.entriesAtLeast(answers.length);
  let arms: { readonly name: string; readonly weight: number; readonly requests: number; readonly outcomes: number | null }[] = [];
  do {
    await systemClock.sleep(50);
    arms = (await gateway.adminCall("GET", "/api/experiments/cheap")).json["arms"] as typeof arms;
  } while (arms.reduce((sum, { outcomes }) => sum + (outcomes ?? 0), 0) < answers.length);
  assert.deepEqual(
    arms.map(({ outcomes }) => outcomes),
    arms.map(({ requests }) => requests),
  );
  assert.deepEqual(
    arms.map(({ name, weight, requests }) => [name, weight, requests]),
    [
      ["control", 1, answers.length - inB.length - late.length],
      ["b", 0, inB.length + late.length],
    ],
  );
});

test("a guard rolls back by itself, and clients see no failure", async (t) => {
  const made = await gateway.adminCall("POST", "/api/experiments/cheap/ramp", { weights: { b: 0.5 } });
  assert.equal(made.json["state"], "running");
  simulation.simulator.fault("b", "error");
  let state = "running";
  let answers: Answered[] = [];
  for (let round = 0; round < 20 && state === "running"; round++) {
    answers = [...answers, ...(await load(`g${round}`, systemClock.monotonicMs() + 500))];
    const { json } = await gateway.adminCall("GET", "/api/experiments/cheap");
    state = json["state"] as string;
    const step = (json["history"] as { readonly by: string; readonly reason: string }[]).at(-1);
    if (state !== "running") t.diagnostic(`after ${answers.length} requests: ${step?.by}: ${step?.reason}`);
  }
  assert.equal(state, "rolled_back");
  assert.deepEqual(
    answers.filter(({ status }) => status !== 200),
    [],
  );
});
