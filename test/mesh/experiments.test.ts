import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { systemClock } from "#libs/clock/index.ts";
import { meshMissing, startGateway, type Gateway } from "../support/gateway.ts";
import { measureRollback, runVerb } from "../support/rollback.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

const INGRESSES = 3;
const ENGINES = 2;

/** Units whose arms are compared over replicas and restarts. */
const USERS = 90;

const missing = meshMissing();
if (missing !== undefined) test("experiments over three ingresses and two engines", { skip: missing }, () => {});
else {
  let gateway: Gateway;
  let simulation: Simulation;

  const apis = (): string[] =>
    gateway.mesh!.processes.filter(({ role }) => role === "ingress").map(({ name }) => gateway.mesh!.url(name, "api"));

  /** The arm a user gets. An engine that takes too long leaves the ingress to its fallback, which knows no arms: then it is asked again. */
  const armOf = async (url: string, user: number): Promise<string> => {
    for (;;) {
      const answer = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "chat", user: `u-${user}`, max_tokens: 4, messages: [{ role: "user", content: `from ${user}` }] }),
      });
      await answer.arrayBuffer();
      assert.equal(answer.status, 200);
      const arm = answer.headers.get("x-signalbox-experiment");
      if (arm !== null) return arm;
    }
  };

  /** The arm each user gets, asked over all ingresses in turn from `offset` on, as many at a time as there are ingresses. */
  const armsOf = async (offset: number): Promise<readonly string[]> => {
    const urls = apis();
    const arms: string[] = [];
    for (let user = 0; user < USERS; user += urls.length)
      arms.push(...(await Promise.all(urls.map((_, at) => armOf(urls[(at + offset) % urls.length]!, user + at)))));
    return arms;
  };

  interface Shown {
    readonly arms: readonly { readonly name: string; readonly outcomes: number | null; readonly units: number | null }[];
    readonly engines: number;
  }

  /** The comparison once it holds this many outcomes. */
  const comparedAt = async (name: string, outcomes: number): Promise<Shown> => {
    for (;;) {
      const shown = (await gateway.adminCall("GET", `/api/experiments/${name}`)).json as unknown as Shown;
      if (shown.arms.reduce((sum, arm) => sum + (arm.outcomes ?? 0), 0) >= outcomes) return shown;
      await systemClock.sleep(100);
    }
  };

  before(async () => {
    simulation = await startSimulation([simulatedBackend("a", "openai", 1), simulatedBackend("b", "openai", 1)]);
    gateway = await startGateway({
      topology: "mesh",
      scale: { ingress: INGRESSES, policyEngine: ENGINES, adapterOpenai: 1, adapterAnthropic: 0 },
      config: { backends: simulation.backends, models: { chat: { candidates: ["a", "b"] } } },
    });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  test("a rollback under load reaches every replica, says so, and fails nobody", async (t) => {
    const figures = await measureRollback(gateway, apis(), "low", {
      rps: 40,
      beforeMs: 2_000,
      afterMs: 2_000,
      replicas: INGRESSES + ENGINES,
    });
    t.diagnostic(`last request to b ${figures.lastToArmMs.toFixed(0)} ms after the command; confirmed after ${figures.confirmedMs} ms`);
    assert.deepEqual([figures.failed, figures.exitCode, figures.replicas], [0, 0, INGRESSES + ENGINES]);
    assert.ok(figures.shareBefore > 0.2 && figures.shareBefore < 0.8, `${figures.shareBefore}`);
    assert.ok(figures.requestsAfter > 0);
  });

  test("users keep their arm on every replica and over restarts of the engines and the ledger, and the comparison survives", async () => {
    await runVerb(gateway, "experiments", "start", "sticky", "--model", "chat", "--arm", "b=50%");
    await gateway.adminCall("POST", "/api/experiments/sticky/ramp", { weights: { b: 0.5 }, wait_ms: 30_000 });
    const first = await armsOf(0);
    assert.deepEqual([...new Set(first)].toSorted(), ["sticky=b", "sticky=control"]);
    assert.deepEqual(await armsOf(1), first);
    const before = await comparedAt("sticky", 2 * USERS);
    assert.equal(before.arms.reduce((sum, arm) => sum + (arm.units ?? 0), 0) >= USERS, true);
    for (const name of ["policy-engine-1", "policy-engine-2", "cost-ledger"]) {
      const old = gateway.mesh!.child(name).pid();
      gateway.mesh!.child(name).signal("SIGKILL");
      while (gateway.mesh!.child(name).pid() === old) await systemClock.sleep(50);
      await gateway.mesh!.ready(name);
    }
    // An engine is fit again when it says which state it applied.
    const after = await gateway.adminCall("POST", "/api/experiments/sticky/ramp", { weights: { b: 0.5 }, wait_ms: 30_000 });
    assert.equal(after.json["confirmed"], true, JSON.stringify(after.json["replicas"]));
    assert.deepEqual(await armsOf(2), first);
    const compared = await comparedAt("sticky", 3 * USERS);
    assert.equal(
      compared.arms.reduce((sum, arm) => sum + (arm.outcomes ?? 0), 0),
      3 * USERS,
    );
    await gateway.adminCall("POST", "/api/experiments/sticky/rollback", { wait_ms: 30_000 });
  });

  test("an answer is scored at another ingress than the one that gave it, and the score reaches the comparison", async () => {
    await runVerb(gateway, "experiments", "start", "scored", "--model", "chat", "--arm", "b=50%");
    await gateway.adminCall("POST", "/api/experiments/scored/ramp", { weights: { b: 0.5 }, wait_ms: 30_000 });
    const [one, other] = apis();
    let [arm, id] = ["", ""];
    while (!arm.startsWith("scored=")) {
      const body = JSON.stringify({ model: "chat", user: "kim", max_tokens: 4, messages: [{ role: "user", content: "hello" }] });
      const answer = await fetch(`${one}/v1/chat/completions`, { method: "POST", body });
      arm = answer.headers.get("x-signalbox-experiment") ?? "";
      id = ((await answer.json()) as { id: string }).id;
    }
    // At once: the entry may still be on its way to the ledger.
    const scored = await fetch(`${other}/v1/feedback`, { method: "POST", body: JSON.stringify({ response_id: id, score: 0.25 }) });
    assert.deepEqual([scored.status, ((await scored.json()) as { experiment: string }).experiment], [200, arm]);
    for (let quality: unknown; quality === undefined; await systemClock.sleep(100)) {
      const { json } = await gateway.adminCall("GET", "/api/experiments/scored");
      const arms = json["arms"] as { readonly name: string; readonly metrics: { readonly quality?: { readonly mean: number } } }[];
      quality = arms.find(({ name }) => `scored=${name}` === arm)?.metrics.quality?.mean;
      if (quality !== undefined) assert.equal(quality, 0.25);
    }
    await gateway.adminCall("POST", "/api/experiments/scored/rollback", { wait_ms: 30_000 });
  });

  test("without NATS a rollback arrives by the replicas' own questions, and fails nobody", async (t) => {
    const figures = await measureRollback(gateway, apis(), "silent", {
      rps: 20,
      beforeMs: 2_000,
      afterMs: 3_000,
      replicas: INGRESSES + ENGINES,
      onHalf: () => gateway.nats!.stop(),
    });
    t.diagnostic(`last request to b ${figures.lastToArmMs.toFixed(0)} ms after the command; confirmed after ${figures.confirmedMs} ms`);
    assert.deepEqual([figures.failed, figures.exitCode, figures.replicas], [0, 0, INGRESSES + ENGINES], figures.printed);
    assert.ok(figures.requestsAfter > 0);
  });
}
