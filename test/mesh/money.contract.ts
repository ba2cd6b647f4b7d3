import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, before, test, type TestContext } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { startGateway, type EntryLine, type Gateway } from "../support/gateway.ts";
import { endings, sendLoad } from "../support/load.ts";
import { reconcile, type ReconcilePrice } from "../support/reconcile.ts";
import type { SpeedProfile } from "#simulator/index.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Answers take a few hundred ms, so that at every kill most clients have one in flight. */
const SPEED: SpeedProfile = { kind: "cloud", ttftMs: 150, ttftSigma: 0.3, itlMs: 8, itlSigma: 0.3 };

/** How much of it. */
export interface MoneyScale {
  readonly requests: number;
  /** Requests at once. */
  readonly clients: number;
  /** SIGKILLs of each of cost-ledger, ingress, one adapter and nats-server. */
  readonly kills: number;
  /** Hard stops of PostgreSQL. */
  readonly postgresStops: number;
}

/** Attempts one request can have in flight: its own and a hedge, or one that was given up and has not ended. */
const ATTEMPTS_PER_REQUEST = 2;
/** Attempts among which there is a hedge for certain: a few in a thousand are. */
const HEDGED_FROM = 10_000;
/** A killed process stays down this long, ms: what restarts it elsewhere takes as long, and backs off no further. */
const RESTART_MS = 700;
/** How long PostgreSQL and NATS stay down, ms. */
const DOWN_MS = 1_500;
/** Longest wait for the ledger to catch up at the end, ms. */
const SETTLE_MS = 120_000;
/** Kills that end what runs: only these may leave an attempt whose cost nobody learns. */
const ENDING: readonly Victim[] = ["ingress", "adapter-openai-1"];
const NAMES = ["kill-openai", "kill-claude", "kill-vllm"] as const;
const COSTS: Readonly<Record<(typeof NAMES)[number], number>> = { "kill-openai": 1, "kill-claude": 1.04, "kill-vllm": 1.08 };

type Victim = "cost-ledger" | "ingress" | "adapter-openai-1" | "nats-server" | "nats-server, its store deleted" | "postgres";

/** B1 to B4: every part that money passes through dies under load, again and again; every billed attempt has exactly one entry. */
export function moneySuite({ requests, clients, kills, postgresStops }: MoneyScale): void {
  let gateway: Gateway;
  let simulation: Simulation;

  before(async () => {
    simulation = await startSimulation([
      simulatedBackend("kill-openai", "openai", COSTS["kill-openai"], SPEED),
      simulatedBackend("kill-claude", "anthropic", COSTS["kill-claude"], SPEED),
      simulatedBackend("kill-vllm", "vllm", COSTS["kill-vllm"], SPEED),
    ]);
    gateway = await startGateway({
      topology: "mesh",
      config: {
        backends: simulation.backends,
        // Persons' streams are hedged, and often enough to be in the mix.
        models: { chat: { candidates: [...NAMES], class: "interactive" } },
        resilience: { hedge: { budget: "10%", after: "p95" } },
      },
    });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  /** Makes a part die, and resolves when it is back. */
  const strike = async (victim: Victim): Promise<void> => {
    const mesh = gateway.mesh!;
    switch (victim) {
      case "nats-server":
      case "nats-server, its store deleted":
        gateway.nats!.kill();
        await sleep(DOWN_MS);
        if (victim !== "nats-server") rmSync(join(gateway.dir, "nats", "jetstream"), { recursive: true, force: true });
        gateway.nats!.revive();
        return;
      case "postgres":
        gateway.postgres!.kill();
        await sleep(DOWN_MS);
        gateway.postgres!.revive();
        return;
      case "cost-ledger":
      case "ingress":
      case "adapter-openai-1": {
        const child = mesh.child(victim);
        const pid = child.pid();
        child.signal("SIGKILL");
        await sleep(RESTART_MS);
        while (child.pid() === pid) await sleep(20);
        child.start();
        await mesh.ready(victim);
      }
    }
  };

  test(`${requests} requests or more while every part dies ${kills} times: 0 lost, 0 duplicate, ledger = invoice`, async (t) => {
    simulation.simulator.fault("kill-openai", "error", { p: 0.05 });
    simulation.simulator.fault("kill-claude", "cut", { p: 0.02, afterTokens: 4 });
    simulation.simulator.fault("kill-vllm", "429-rate", { p: 0.03 });
    const plan = shuffled(kills, postgresStops);
    const struck: Victim[] = [];
    let striking: Promise<void> = Promise.resolve();
    let ready = true;
    const refusals: Record<string, number> = {};
    let open = 0;
    let inFlight = 0;
    const lines = await sendLoad({
      api: gateway.api,
      count: requests,
      concurrency: clients,
      model: "chat",
      prompt: (index) => `[sim tokens=${8 + (index % 24)}] question ${index}`,
      goesOn: () => struck.length < plan.length || !ready,
      aborts: (index) => index % 29 === 1,
      onSend: () => open++,
      onAnswer: async ({ ending, code }, done) => {
        open--;
        if (ending === "error_status") {
          const where = `${struck.at(-1) ?? "nothing"}: ${code}`;
          refusals[where] = (refusals[where] ?? 0) + 1;
        }
        if (struck.length < plan.length && ready && done >= ((struck.length + 1) * requests) / (plan.length + 1)) {
          const victim = plan[struck.length]!;
          struck.push(victim);
          if (ENDING.includes(victim)) inFlight += ATTEMPTS_PER_REQUEST * (open + 1);
          ready = false;
          striking = strike(victim).finally(() => (ready = true));
        }
        // A client without an ingress comes back when there is one; the others go on.
        if (ending === "broken") await gateway.mesh!.ready("ingress");
      },
    });
    await striking;
    assert.equal(struck.length, plan.length, "every kill fell into the load");
    simulation.simulator.clear();
    for (const { name } of gateway.mesh!.processes) await gateway.mesh!.ready(name);
    t.diagnostic(`refusals after the kill of: ${JSON.stringify(refusals)}`);
    const bad = lines.filter(({ ending }) => !["complete", "error_event", "aborted", "broken"].includes(ending));
    t.diagnostic(`clients: ${JSON.stringify(endings(lines))}`);
    await judge(t, bad.length, inFlight);
  });

  async function judge(t: TestContext, failed: number, inFlight: number): Promise<void> {
    const prices = new Map<string, ReconcilePrice>(
      NAMES.map((name) => [
        name,
        { input: COSTS[name], cacheRead: COSTS[name] / 10, cacheWrite: COSTS[name] * 1.25, output: COSTS[name] * 4 },
      ]),
    );
    const started = performance.now();
    let entries = await gateway.entries();
    let result = reconcile(simulation.simulator.invoice(), standing(entries).entries, prices);
    while (result.lost.length > 0 && performance.now() - started < SETTLE_MS) {
      await sleep(250);
      entries = await gateway.entries();
      result = reconcile(simulation.simulator.invoice(), standing(entries).entries, prices);
    }
    const { entries: final, twice } = standing(entries);
    const estimated = final.filter((entry) => entry.estimated);
    const unstated = simulation.simulator.invoice().filter(({ stated }) => !stated).length;
    const guesses = new Set(estimated.map((entry) => entry.attempt_id));
    const wrong = result.wrong.filter((line) => !guesses.has(line.split(" ")[0]!));
    const exact = final.filter((entry) => !entry.estimated);
    const ledger = exact.reduce((sum, entry) => sum + BigInt(entry.cost_nano_usd), 0n);
    const billed = new Set(simulation.simulator.invoice().map((line) => line.client_request_id));
    const unbilled = exact.filter((entry) => entry.cost_nano_usd !== "0" && !billed.has(entry.attempt_id));
    const beyond = estimated.filter((entry) => BigInt(entry.cost_nano_usd) > BigInt(entry.reserved_nano_usd));
    const mix = mixOf(final);
    const { json: verified } = await gateway.adminCall("GET", "/api/ledger/verify");
    t.diagnostic(
      `kills: cost-ledger ${kills}, ingress ${kills}, adapter ${kills}, nats-server ${kills} (once its store deleted), PostgreSQL ${postgresStops}; ` +
        `${result.billed} billed, ${final.length} attempts booked, ${entries.length} entries, ${estimated.length} estimated (${unstated} never stated), ` +
        `${result.lost.length} lost, ${twice.length} duplicate, ${wrong.length} wrong; exact entries ${ledger} nano-USD; caught up in ${Math.round(performance.now() - started)} ms; ` +
        `verified ${String(verified["entries"])} entries, ${String(verified["problem_count"])} problems; ${failed} requests failed with a status; ` +
        `attempts in flight at kills of ingress and adapter: at most ${inFlight}; mix ${JSON.stringify(mix)}`,
    );
    assert.deepEqual(result.lost.slice(0, 5), [], "lost");
    assert.deepEqual(twice.slice(0, 5), [], "duplicate");
    assert.deepEqual(wrong.slice(0, 5), [], "wrong");
    assert.deepEqual(result.unmarked.slice(0, 5), [], "not stated, not marked");
    assert.ok(
      estimated.length - unstated <= inFlight,
      `${estimated.length} estimates, at most ${inFlight} attempts were in flight at the kills`,
    );
    assert.deepEqual(beyond.slice(0, 5), [], "estimated beyond its reservation");
    assert.deepEqual(unbilled.slice(0, 5), [], "booked at a cost nobody billed");
    for (const [kind, count] of Object.entries(mix)) {
      if (kind === "hedges" && final.length < HEDGED_FROM) continue;
      assert.ok(count > 0, `no ${kind} in the mix`);
    }
    assert.equal(verified["ok"], true, JSON.stringify(verified["problems"]));
  }
}

/** How many attempts of each kind the suite is about there were. */
function mixOf(entries: readonly EntryLine[]): Record<string, number> {
  const count = (test: (entry: EntryLine) => boolean): number => entries.filter(test).length;
  return {
    ok: count(({ outcome }) => outcome === "ok"),
    failed: count(({ outcome }) => outcome === "failed"),
    aborted: count(({ outcome }) => outcome === "canceled"),
    hedges: count(({ outcome }) => outcome === "hedge_lost"),
    failovers: count(({ attempt, outcome }) => attempt > 1 && outcome !== "hedge_lost"),
  };
}

/** Every kill once per round, in a random order that is the same every time; NATS loses its store in the first. */
function shuffled(kills: number, postgresStops: number): readonly Victim[] {
  const random = new SeededRandom(7);
  const plan: Victim[] = [];
  for (let round = 0; round < Math.max(kills, postgresStops); round++) {
    const victims: Victim[] =
      round < kills ? ["cost-ledger", "ingress", "adapter-openai-1", round === 0 ? "nats-server, its store deleted" : "nats-server"] : [];
    if (round < postgresStops) victims.push("postgres");
    for (let left = victims.length; left > 0; left--) plan.push(...victims.splice(random.int(left), 1));
  }
  return plan;
}

/** The entry that stands for each attempt: the last one that no reversal took back. Attempts for which several stand are listed. */
function standing(entries: readonly EntryLine[]): { readonly entries: readonly EntryLine[]; readonly twice: readonly string[] } {
  const byAttempt = new Map<string, EntryLine[]>();
  const reversed = new Map<string, number>();
  for (const entry of entries) {
    const { reverses } = entry as EntryLine & { readonly reverses: string };
    if (reverses === "") byAttempt.set(entry.attempt_id, [...(byAttempt.get(entry.attempt_id) ?? []), entry]);
    else reversed.set(reverses, (reversed.get(reverses) ?? 0) + 1);
  }
  const twice = [...byAttempt].filter(([id, list]) => list.length - (reversed.get(id) ?? 0) !== 1).map(([id]) => id);
  return { entries: [...byAttempt.values()].map((list) => list.at(-1)!), twice };
}
