import assert from "node:assert/strict";
import { test } from "node:test";
import { maskOf } from "#libs/capability/index.ts";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { backend, chosen, config, DONE, model, report, request, STARTED, world } from "./fixture.ts";
import { TenantShares } from "./shares.ts";
import { compileSnapshot } from "./snapshot.ts";
import { EngineState } from "./state.ts";

const VISION = maskOf(["vision"]);
const NAMES = ["fast", "also-fast", "slow", "also-slow"];
const CONFIG = config(
  NAMES.map((name) => backend(name, { provider: "vllm" })),
  [model("chat", NAMES, { class: "interactive" })],
);

interface Scene {
  readonly state: EngineState;
  readonly shares: TenantShares;
  readonly give: (tenant: string, count: number) => void;
  readonly refresh: (nowMs: number) => void;
  readonly heldFrom: (tenant: string) => readonly string[];
}

function scene(parts = CONFIG): Scene {
  const snapshot = compileSnapshot(parts, undefined, EMPTY_PRICE_INDEX);
  const state = new EngineState(snapshot, 0);
  for (const name of ["slow", "also-slow"]) state.byName(name)!.decodeRatio = 2;
  const { shares } = state;
  return {
    state,
    shares,
    give: (tenant, count) => {
      for (let done = 0; done < count; done++) shares.enter("chat", tenant, 1_000);
    },
    refresh: (nowMs) => shares.refresh(snapshot, state.backends, nowMs),
    heldFrom: (tenant) => NAMES.filter((_, index) => shares.mostFor("chat", tenant, index) === 1),
  };
}

test("a tenant alone, and tenants that take about the same, are kept from nothing", () => {
  const { give, refresh, heldFrom } = scene();
  give("heavy", 200);
  refresh(0);
  assert.deepEqual(heldFrom("heavy"), []);
  give("other", 140);
  refresh(250);
  assert.deepEqual([heldFrom("heavy"), heldFrom("other")], [[], []]);
});

test("a fast engine is kept clear of a tenant that floods beside a light one, up to where it serves as if idle", () => {
  const { give, refresh, heldFrom } = scene();
  give("light", 2);
  give("heavy", 200);
  refresh(0);
  assert.deepEqual(heldFrom("heavy"), ["fast"]);
  assert.deepEqual(heldFrom("light"), []);
});

test("more is kept clear where light tenants need it, and never more than half", () => {
  const { give, refresh, heldFrom } = scene();
  give("light", 30);
  give("heavy", 900);
  refresh(0);
  assert.deepEqual(heldFrom("heavy"), ["fast", "slow"], "both fast ones would be more than half");
});

test("the engine kept clear first stays so although one that joined it for a while is a little faster", () => {
  // By its pace alone the one that joined, full of the heavy tenant's work, took the place of the one that stood clear.
  const { state, shares, give, refresh, heldFrom } = scene();
  for (const backendState of state.backends) backendState.decodeRatio = 1;
  give("light", 2);
  give("heavy", 200);
  refresh(0);
  assert.deepEqual(heldFrom("heavy"), ["fast"]);
  give("light", 28);
  give("heavy", 2_000);
  refresh(250);
  assert.deepEqual(heldFrom("heavy"), ["fast", "also-fast"]);
  state.byName("fast")!.decodeRatio = 1.1;
  for (let count = 0; count < 28; count++) shares.leave("chat", "light");
  for (let second = 1; second <= 180; second++) refresh(second * 1_000);
  assert.deepEqual(heldFrom("heavy"), ["fast"]);
  state.byName("fast")!.decodeRatio = 1.9;
  refresh(181_000);
  assert.deepEqual(heldFrom("heavy"), ["also-fast"], "much slower is another thing");
});

test("a heavy tenant uses a clear engine only while it stands idle", () => {
  const { shares, give, refresh } = scene();
  give("light", 2);
  give("heavy", 200);
  refresh(0);
  assert.equal(shares.mostFor("chat", "heavy", 0), 1);
});

test("a flood is known by what it has in flight before its work adds up, and at once", () => {
  // Four times the work of a tenant that was there before takes seconds to come by: by then every engine is full of it.
  const { shares, give, refresh, heldFrom } = scene();
  give("light", 2);
  for (let done = 0; done < 30; done++) {
    give("light", 1);
    shares.leave("chat", "light");
  }
  give("heavy", 7);
  for (let second = 0; second <= 60; second++) refresh(second * 1_000);
  give("light", 1);
  shares.leave("chat", "light");
  give("heavy", 5);
  assert.equal(shares.isDue, false, "four times three in flight is not above that, and it had seven for a minute");
  give("heavy", 1);
  assert.equal(shares.isDue, true);
  refresh(60_000);
  assert.deepEqual(heldFrom("heavy"), ["fast"]);
  assert.equal(shares.isDue, false);
});

test("who suddenly has half as many again as the others ever had is taken for a flood, for some seconds", () => {
  // At four times as many it was too late for the answers that ran beside dozens of its own by then.
  const { shares, give, refresh, heldFrom } = scene();
  const pass = (from: number, until: number): void => {
    for (let second = from; second <= until; second++) {
      refresh(second * 1_000);
      give("light", 1);
      shares.leave("chat", "light");
    }
  };
  give("light", 9);
  pass(0, 60);
  give("newcomer", 15);
  assert.equal(shares.isDue, false);
  give("newcomer", 1);
  assert.equal(shares.isDue, true);
  refresh(60_000);
  assert.deepEqual([heldFrom("newcomer"), heldFrom("light")], [["fast"], []]);
  pass(61, 70);
  assert.deepEqual(heldFrom("newcomer"), [], "it stays at that");
});

test("few requests are no flood, however few the others have", () => {
  const { shares, give } = scene();
  give("light", 1);
  for (let count = 0; count < 4; count++) give("other", 1);
  assert.equal(shares.isDue, false);
});

test("a flood's engine that comes back from an ejection takes of it no more than it can do at its pace", () => {
  // Ejected engines had no bound: readmitted, one was given 180 requests of the flood before its bound was worked out.
  const paced = config(
    NAMES.map((name) => backend(name, { provider: "vllm" })),
    [model("chat", NAMES, { class: "interactive", sla: { ttftMs: 1_000, tpotMs: 50, deadlineMs: undefined } })],
  );
  const { state, shares, give, refresh } = scene(paced);
  give("light", 2);
  give("heavy", 200);
  state.byName("also-fast")!.ejected = true;
  refresh(0);
  assert.ok(shares.mostFor("chat", "heavy", 1) < 90);
});

test("requests that wait count: who is given little for want of room is heavy all the same", () => {
  const { shares, give, refresh, heldFrom } = scene();
  give("light", 4);
  give("heavy", 5);
  for (let count = 0; count < 100; count++) shares.enter("chat", "heavy");
  refresh(0);
  assert.deepEqual(heldFrom("heavy"), ["fast"]);
  for (let count = 0; count < 100; count++) shares.leave("chat", "heavy");
  refresh(250);
  assert.deepEqual(heldFrom("heavy"), []);
});

test("a heavy tenant has no peaks: engines that are not kept clear take of it what they can do at their pace", () => {
  const paced = config(
    NAMES.map((name) => backend(name, { provider: "vllm" })),
    [model("chat", NAMES, { class: "interactive", sla: { ttftMs: 1_000, tpotMs: 50, deadlineMs: undefined } })],
  );
  const { shares, give, refresh } = scene(paced);
  give("light", 2);
  give("heavy", 200);
  refresh(0);
  const [, fast, slow] = NAMES.map((_, index) => shares.mostFor("chat", "heavy", index));
  assert.ok(fast! > 60 && fast! < 90, String(fast));
  assert.ok(slow! > 10 && slow! < fast!, String(slow));
  assert.equal(shares.mostFor("chat", "light", 1), Number.POSITIVE_INFINITY);
});

test("weights say what is heavy", () => {
  const limits = { rpm: undefined, tpm: undefined, concurrency: undefined };
  const gold = { name: "heavy", teams: [], budgets: [], limits: { ...limits, weight: 100 }, models: undefined };
  const { give, refresh, heldFrom } = scene({ ...CONFIG, tenants: new Map([["heavy", gold]]) });
  give("light", 2);
  give("heavy", 150);
  refresh(0);
  assert.deepEqual(heldFrom("heavy"), []);
});

test("a flood that ends is forgotten with the light tenant's silence, and nothing stays behind", () => {
  const { shares, give, refresh, heldFrom } = scene();
  give("light", 2);
  give("heavy", 200);
  refresh(0);
  for (let count = 0; count < 200; count++) shares.leave("chat", "heavy");
  for (let count = 0; count < 2; count++) shares.leave("chat", "light");
  for (let second = 1; second <= 600; second++) refresh(second * 1_000);
  assert.deepEqual(heldFrom("heavy"), []);
  give("heavy", 1);
  refresh(601_000);
  assert.deepEqual(heldFrom("heavy"), []);
});

test("a light tenant goes at once past a queue of those kept from the engine it finds clear", async () => {
  const names = ["a", "b"];
  const parts = config(
    names.map((name) => backend(name, { provider: "vllm", concurrency: { mode: "fixed", min: 1, max: 6 } })),
    [model("chat", names, { class: "interactive" })],
  );
  const { session, clock } = await world(parts);
  const decide = (tenant: string): { readonly id: string; readonly waits: boolean } => {
    const asked = request("chat", { tenant, stream: true });
    const { decision } = session.decide(asked);
    if (decision instanceof Promise) {
      void decision.catch(() => {});
      return { id: asked.decisionId, waits: true };
    }
    session.report(report(asked.decisionId, chosen(decision)[0]!, STARTED));
    return { id: asked.decisionId, waits: false };
  };
  assert.equal(decide("light").waits, false);
  const flood = Array.from({ length: 40 }, () => decide("heavy"));
  await clock.advanceAsync(1_000);
  for (const { id, waits } of flood) if (!waits) session.report(report(id, "", DONE));
  await clock.advanceAsync(1_000);
  const asked = request("chat", { tenant: "light", stream: true });
  const { decision } = session.decide(asked);
  assert.notEqual(await Promise.race([Promise.resolve(decision), Promise.resolve("still waiting")]), "still waiting");
});

test("a heavy tenant's request is let in where all that can serve it is kept clear of the tenant", async () => {
  // It waited for nothing until its time was over, as age lifts a class's ceiling and not this.
  const names = ["eyes", "blind"];
  const engine = { provider: "vllm", concurrency: { mode: "fixed", min: 1, max: 40 } } as const;
  const parts = config(
    [
      backend("eyes", { ...engine, capabilities: new Set(["streaming", "vision"]) }),
      backend("blind", { ...engine, capabilities: new Set(["streaming"]) }),
    ],
    [model("chat", names, { class: "interactive" })],
  );
  const { session, clock } = await world(parts);
  const decide = (tenant: string, needs: number): string | undefined => {
    const asked = request("chat", { tenant, stream: true, needs });
    const { decision } = session.decide(asked);
    if (decision instanceof Promise) return void decision.catch(() => {});
    const [name] = chosen(decision);
    session.report(report(asked.decisionId, name!, STARTED));
    return name;
  };
  assert.equal(decide("light", VISION), "eyes");
  for (let count = 0; count < 20; count++) decide("heavy", 0);
  await clock.advanceAsync(1_000);
  assert.equal(decide("heavy", 0), "blind", "the other is kept clear");
  assert.equal(decide("heavy", VISION), "eyes");
});

test("a heavy tenant's request waits where the other engines have of the tenant what they can do at their pace", async () => {
  // Let in for that, a flood filled the engine kept clear as well.
  const names = ["a", "b"];
  const parts = config(
    names.map((name) => backend(name, { provider: "vllm" })),
    [model("chat", names, { class: "interactive", sla: { ttftMs: 1_000, tpotMs: 50, deadlineMs: undefined } })],
  );
  const { session, clock } = await world(parts);
  const placed = new Map<string, number>();
  const decide = (tenant: string): void => {
    const asked = request("chat", { tenant, stream: true });
    const { decision } = session.decide(asked);
    if (decision instanceof Promise) return void decision.catch(() => {});
    const [name] = chosen(decision);
    placed.set(name!, (placed.get(name!) ?? 0) + 1);
    session.report(report(asked.decisionId, name!, STARTED));
  };
  decide("light");
  for (let count = 0; count < 20; count++) decide("heavy");
  await clock.advanceAsync(1_000);
  const before = placed.get("a")!;
  for (let count = 0; count < 200; count++) decide("heavy");
  assert.ok(placed.get("a")! <= before + 1, JSON.stringify([...placed]));
});
