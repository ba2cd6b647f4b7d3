import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { defaultConfig } from "#libs/config/index.ts";
import { A100, type EngineProfile, H100, L40S, longTailed, type Serving, SimulatedCloud, SimulatedEngine } from "./engines.fixture.ts";
import { backend, book, chosen, config, DONE, ended, model, report, request, STARTED, world, type World } from "./fixture.ts";

const POOL: Readonly<Record<string, EngineProfile>> = { h1: H100, h2: H100, a1: A100, a2: A100, l1: L40S, l2: L40S };

/** What came of a run. */
interface Outcome {
  readonly attainment: number;
  readonly ttftP50: number;
  readonly byBackend: ReadonlyMap<string, number>;
  /** Batch requests that ended within two minutes of the last arrival. */
  readonly batchDone: number;
  /** Counted requests that missed the pace. */
  readonly slowPace: number;
  /** Requests that waited too long. */
  readonly refused: number;
}

interface Run {
  readonly profiles: Readonly<Record<string, EngineProfile | "cloud">>;
  readonly perSecond: number;
  readonly requests: number;
  /** Chooses instead of the engine. */
  readonly choose?: (names: readonly string[], nth: number) => string;
  /** Called at each arrival. */
  readonly at?: (nth: number, engines: ReadonlyMap<string, Serving>) => void;
  /** Whether a request is batch work; those do not count in the attainment. Default: none is. */
  readonly isBatch?: (nth: number) => boolean;
  /** Ceiling of batch work; default as configured by default. */
  readonly batchCeiling?: number;
  /** Requests at the start that do not count. */
  readonly warmup: number;
}

/** Drives the production engine against simulated GPUs: Poisson arrivals, SLO = first token within a second and 50 ms a token. */
async function drive(run: Run): Promise<Outcome> {
  const names = Object.keys(run.profiles);
  const isCloud = (name: string): boolean => run.profiles[name] === "cloud";
  const backends = names.map((name) => backend(name, { provider: isCloud(name) ? "openai" : "vllm", contextTokens: 1_000_000 }));
  const prices = book(Object.fromEntries(names.map((name) => [name, isCloud(name) ? { input: 3, output: 15 } : { rent: 2 }])));
  const { classes } = defaultConfig();
  const batch = { ...classes.batch, ceiling: run.batchCeiling ?? classes.batch.ceiling };
  const scene = await world(config(backends, [model("chat", names, { class: "interactive" })], { classes: { ...classes, batch } }), prices);
  const random = new SeededRandom(11);
  const serving = (profile: EngineProfile | "cloud"): Serving =>
    profile === "cloud" ? new SimulatedCloud(scene.clock, new SeededRandom(5)) : new SimulatedEngine(scene.clock, profile);
  const engines = new Map(names.map((name) => [name, serving(run.profiles[name]!)]));
  const ttfts: number[] = [];
  const byBackend = new Map<string, number>();
  let met = 0;
  let batchDone = 0;
  let slowPace = 0;
  let refused = 0;
  let counted = 0;
  let open = run.requests;
  for (let nth = 0; nth < run.requests; nth++) {
    run.at?.(nth, engines);
    const input = longTailed(random, 1_000, 0.6);
    const output = longTailed(random, 150, 0.7);
    const isBatch = run.isBatch?.(nth) ?? false;
    const asked = request("chat", { inputTokens: input, requestClass: isBatch ? RequestClass.BATCH : RequestClass.INTERACTIVE });
    const askedMs = scene.clock.monotonicMs();
    const forced = run.choose?.(names, nth);
    void decide(scene, asked, forced).then((name) => {
      if (name === undefined) {
        open -= 1;
        refused += 1;
        if (nth >= run.warmup && !isBatch) counted += 1;
        return;
      }
      scene.session.report(report(asked.decisionId, name, STARTED));
      let ttftMs = 0;
      const queuedMs = scene.clock.monotonicMs() - askedMs;
      byBackend.set(name, (byBackend.get(name) ?? 0) + (nth >= run.warmup ? 1 : 0));
      engines.get(name)!.submit(input, output, {
        onFirst: (ms) => {
          ttftMs = ms;
          scene.session.report(
            report(asked.decisionId, name, {
              case: "firstToken",
              value: { $typeName: "signalbox.policy.v1.AttemptFirstToken", ttftMs: ms },
            }),
          );
        },
        onGap: (gapMs, outputTokens) => {
          scene.session.report(
            report(asked.decisionId, name, { case: "gap", value: { $typeName: "signalbox.policy.v1.AttemptGap", gapMs, outputTokens } }),
          );
        },
        onEnd: (durationMs) => {
          const tpotMs = (durationMs - ttftMs) / Math.max(1, output - 1);
          scene.session.report(
            report(asked.decisionId, name, { case: "ended", value: ended({ durationMs, ttftMs, outputTokens: output }) }),
          );
          scene.session.report(report(asked.decisionId, name, DONE));
          open -= 1;
          if (isBatch) batchDone += 1;
          if (nth < run.warmup || isBatch) return;
          counted += 1;
          ttfts.push(queuedMs + ttftMs);
          if (queuedMs + ttftMs <= 1_000 && tpotMs <= 50) met += 1;
          else if (tpotMs > 50) slowPace += 1;
        },
      });
    });
    await scene.clock.advanceAsync((-Math.log(1 - random.next()) * 1_000) / run.perSecond);
  }
  for (let second = 0; second < 120 && open > 0; second++) await scene.clock.advanceAsync(1_000);
  await scene.host.module.stop();
  return {
    attainment: met / counted,
    ttftP50: ttfts.toSorted((a, b) => a - b)[ttfts.length >> 1]!,
    byBackend,
    batchDone,
    slowPace,
    refused,
  };
}

/** The backend chosen; undefined when the request was refused. */
async function decide(scene: World, asked: ReturnType<typeof request>, forced: string | undefined): Promise<string | undefined> {
  if (forced !== undefined) return forced;
  const decision = await scene.session.decide(asked).decision;
  return decision.result.case === "allow" ? chosen(decision)[0] : undefined;
}

test("on GPUs of three speeds it keeps the targets where round robin loses a third", async () => {
  const setup = { profiles: POOL, perSecond: 30, requests: 1_500, warmup: 300 };
  const ours = await drive(setup);
  const roundRobin = await drive({ ...setup, choose: (names, nth) => names[nth % names.length]! });
  console.log(
    `# attainment ${ours.attainment.toFixed(3)} against ${roundRobin.attainment.toFixed(3)}; ${JSON.stringify(Object.fromEntries(ours.byBackend))}`,
  );
  assert.ok(ours.attainment >= 0.95, String(ours.attainment));
  assert.ok(ours.attainment >= roundRobin.attainment + 0.1);
  const fast = (ours.byBackend.get("h1") ?? 0) + (ours.byBackend.get("h2") ?? 0);
  const slow = (ours.byBackend.get("l1") ?? 0) + (ours.byBackend.get("l2") ?? 0);
  assert.ok(fast > 1.5 * slow, `${fast} on the fast, ${slow} on the slow`);
});

/** Engine `a` of four turns ten times slower from the 300th request to the 600th; the outcome counts from `warmup` on. */
async function grayFailure(warmup: number): Promise<Outcome> {
  const at = (nth: number, engines: ReadonlyMap<string, Serving>): void => {
    engines.get("a")!.slowness = nth >= 300 && nth < 600 ? 10 : 1;
  };
  return drive({ profiles: { a: A100, b: A100, c: A100, d: A100 }, perSecond: 10, requests: warmup === 400 ? 600 : 1_800, warmup, at });
}

test("an engine that turns ten times slower loses its traffic within ten seconds, and has it back within two minutes of its recovery", async () => {
  const during = await grayFailure(400);
  console.log(`# while slow: ${during.byBackend.get("a") ?? 0} of 200, attainment ${during.attainment.toFixed(3)}`);
  assert.ok((during.byBackend.get("a") ?? 0) <= 10);
  assert.ok(during.attainment >= 0.95, String(during.attainment));
  const after = await grayFailure(1_500);
  console.log(`# a minute and a half after: ${JSON.stringify(Object.fromEntries(after.byBackend))}`);
  assert.ok((after.byBackend.get("a") ?? 0) >= 20);
});

test("batch work held back at the gateway leaves people their targets in overload, and still gets done", async () => {
  const setup = {
    profiles: { a: A100, b: A100, c: L40S },
    perSecond: 24,
    requests: 2_000,
    warmup: 300,
    isBatch: (nth: number) => nth % 20 < 7,
  };
  const held = await drive(setup);
  const free = await drive({ ...setup, batchCeiling: 1 });
  console.log(
    `# interactive attainment ${held.attainment.toFixed(3)} held back, ${free.attainment.toFixed(3)} let in; ${held.batchDone} and ${free.batchDone} of 700 batch done; pace missed ${held.slowPace}, ${free.slowPace}; ${held.refused} and ${free.refused} refused`,
  );
  assert.ok(held.attainment >= 0.9 && held.attainment >= free.attainment + 0.15, `${held.attainment} and ${free.attainment}`);
  assert.equal(held.batchDone, 700);
  assert.equal(held.refused, 0);
});

test("owned GPUs do the work while they can, and a spike goes to the cloud before people notice", async () => {
  const profiles = { a: A100, b: A100, cloud: "cloud" } as const;
  const calm = await drive({ profiles, perSecond: 8, requests: 900, warmup: 300 });
  const spike = await drive({ profiles, perSecond: 24, requests: 1_500, warmup: 300 });
  const share = (outcome: Outcome, of: number): number => (outcome.byBackend.get("cloud") ?? 0) / of;
  console.log(
    `# cloud share ${share(calm, 600).toFixed(3)} calm, ${share(spike, 1_200).toFixed(3)} in the spike; attainment ${calm.attainment.toFixed(3)}, ${spike.attainment.toFixed(3)}`,
  );
  assert.ok(share(calm, 600) <= 0.1, String(share(calm, 600)));
  assert.ok(calm.attainment >= 0.97 && spike.attainment >= 0.93, `${calm.attainment}, ${spike.attainment}`);
  assert.ok(share(spike, 1_200) > 0.2 && share(spike, 1_200) < 0.75, String(share(spike, 1_200)));
});
