import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { systemClock } from "#libs/clock/index.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Requests per second, at most. */
const RPS = 60;

/** Requests before a rollback, so that either arm has its share of them, and after it is confirmed. */
const BEFORE = 90;
const AFTER = 60;

/** Requests after which a guard that has not rolled back never will. */
const GUARDED_MAX = 3_000;

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

/** A load of ever new users at a steady pace, until it is ended. */
class Load {
  readonly #asked: Promise<Answered>[] = [];
  readonly #going: Promise<void>;
  #isOver = false;

  constructor(prefix: string) {
    this.#going = (async () => {
      while (!this.#isOver) {
        this.#asked.push(ask(`${prefix}-${this.#asked.length}`));
        await systemClock.sleep(1_000 / RPS);
      }
    })();
  }

  /** Resolves when this many more are answered. */
  async answered(count: number): Promise<void> {
    const from = this.#asked.length;
    while (this.#asked.length < from + count) await systemClock.sleep(5);
    await Promise.all(this.#asked.slice(from, from + count));
  }

  async end(): Promise<Answered[]> {
    this.#isOver = true;
    await this.#going;
    return Promise.all(this.#asked);
  }
}

test("a rollback under load holds from its confirmation on and fails nobody", async (t) => {
  const started = await gateway.adminCall("POST", "/api/experiments", {
    name: "cheap",
    model: MODEL,
    arms: [{ name: "b", weight: 0.5, backends: ["b"] }],
  });
  assert.equal(started.status, 200, JSON.stringify(started.json));
  const load = new Load("u");
  await load.answered(BEFORE);
  const calledAtMs = systemClock.monotonicMs();
  const rolledBack = await gateway.adminCall("POST", "/api/experiments/cheap/rollback", { reason: "test", by: "kim", wait_ms: 60_000 });
  const confirmedAtMs = systemClock.monotonicMs();
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
  await load.answered(AFTER);
  const answers = await load.end();
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
  t.diagnostic(
    `confirmed ${(confirmedAtMs - calledAtMs).toFixed(0)} ms after it was asked for, last request to b after ${lastMs.toFixed(0)} ms, ${answers.length} requests`,
  );
  assert.deepEqual(
    late.filter(({ sentAtMs }) => sentAtMs >= confirmedAtMs),
    [],
  );
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
  const load = new Load("g");
  let sent = 0;
  for (; sent < GUARDED_MAX && state === "running"; sent += RPS / 2) {
    await load.answered(RPS / 2);
    const { json } = await gateway.adminCall("GET", "/api/experiments/cheap");
    state = json["state"] as string;
    const step = (json["history"] as { readonly by: string; readonly reason: string }[]).at(-1);
    if (state !== "running") t.diagnostic(`after ${sent + RPS / 2} requests or more: ${step?.by}: ${step?.reason}`);
  }
  const answers = await load.end();
  assert.equal(state, "rolled_back");
  assert.deepEqual(
    answers.filter(({ status }) => status !== 200),
    [],
  );
});
