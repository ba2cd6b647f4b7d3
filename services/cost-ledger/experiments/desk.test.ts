import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  type ExperimentComparison,
  ExperimentObservationSchema,
  type ExperimentRecord,
  type ReportRequest,
  ReportRequestSchema,
  StartExperimentRequestSchema,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import { createMemoryBus } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { systemRandom } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { defaultModel } from "#libs/config/index.ts";
import { Control } from "../control/index.ts";
import { SqliteDatabase } from "../sqlite-database.ts";
import { ledgerConfig } from "../testkit.ts";

const MODEL = defaultModel("chat", ["gpu", "cloud"]);

type Scores = Parameters<SqliteDatabase["saveScore"]>[0];

interface Scene {
  readonly clock: FakeClock;
  /** A service over the same file, as after a restart. */
  readonly open: () => Promise<Control>;
  readonly score: (parts: Partial<Scores>) => Promise<void>;
  /** Makes reading the scores fail, or work again. */
  readonly failReads: (fails: boolean) => void;
}

async function scene(t: TestContext): Promise<Scene> {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-desk-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  let failing = false;
  let last: SqliteDatabase;
  return {
    clock,
    open: async () => {
      last = new SqliteDatabase(join(directory, "ledger.db"));
      await last.start();
      const store = last;
      t.after(() => store.stop());
      const scoreSums = store.scoreSums.bind(store);
      store.scoreSums = (name) => (failing ? Promise.reject(new Error("no such table")) : scoreSums(name));
      const config = ledgerConfig({ models: new Map([["chat", MODEL]]) });
      const control = new Control({ store, bus, clock, random: systemRandom, config, logger: silentLogger });
      await control.refresh();
      return control;
    },
    failReads: (fails) => {
      failing = fails;
    },
    score: async (parts) => {
      const about = { tenant: "acme", metric: "quality", source: "judge", experiment: "e", revision: 1n, comment: "", atMs: 1 };
      await last.saveScore({ ...about, responseId: "r", arm: "b", score: 0.5, ...parts });
    },
  };
}

async function started(control: Control, parts: object = {}): Promise<ExperimentRecord> {
  const arms = [{ name: "b", weight: 0.5, backends: ["cloud"] }];
  return control.startExperiment(create(StartExperimentRequestSchema, { name: "e", model: "chat", arms, by: "kim", ...parts }));
}

/** What an engine saw: outcomes and failures by arm. */
function seen(replica: string, control: readonly [number, number], b: readonly [number, number], revision = 1n): ReportRequest {
  const arm = (name: string, [count, failures]: readonly [number, number]): object => {
    const mean = failures / count;
    return { arm: name, units: count, metrics: { error: { count, mean, m2: count * mean * (1 - mean) } } };
  };
  const observation = create(ExperimentObservationSchema, { name: "e", run: "/1", revision, arms: [arm("control", control), arm("b", b)] });
  return create(ReportRequestSchema, { replica, role: "policy-engine", appliedRevision: 2n, observations: [observation] });
}

function errorsOf(comparison: ExperimentComparison, arm: string): number | undefined {
  return comparison.arms.find((each) => each.arm === arm)?.metrics.find(({ metric }) => metric === "error")?.count;
}

async function stateOf(control: Control): Promise<string> {
  const record = (await control.listExperiments())[0]!;
  const step = record.history.at(-1)!;
  return `${record.state} ${step.action} by ${step.by}: ${step.reason}`;
}

test("what several engines saw adds up, a report replaces the one before, and a restart of either loses nothing", async (t) => {
  const { clock, open } = await scene(t);
  const control = await open();
  await started(control);
  await control.report(seen("engine-1", [10, 0], [10, 1]));
  await control.report(seen("engine-1", [20, 0], [20, 1]));
  await control.report(seen("engine-2", [5, 0], [5, 0]));
  assert.equal(errorsOf(await control.compareExperiment("e"), "b"), 25);
  clock.advance(1_000);
  await control.desk.tick();
  const again = await open();
  assert.equal(errorsOf(await again.compareExperiment("e"), "b"), 25);
  await again.report(seen("engine-1-restarted", [7, 0], [7, 0]));
  const comparison = await again.compareExperiment("e");
  assert.deepEqual([errorsOf(comparison, "control"), comparison.engines], [32, 3]);
  await again.report({ ...seen("engine-3", [9, 0], [9, 0]), observations: [{ ...seen("x", [9, 0], [9, 0]).observations[0]!, run: "/0" }] });
  assert.equal(errorsOf(await again.compareExperiment("e"), "b"), 32, "another run's outcomes do not count");
});

test("a guard on the sum over engines rolls back, once, with its reason", async (t) => {
  const { clock, open } = await scene(t);
  const control = await open();
  await started(control);
  for (const count of [100, 130, 160]) {
    await control.report(seen("engine-1", [count, 1], [count, count / 5]));
    await control.report(seen("engine-2", [count, 1], [count, count / 5]));
    clock.advance(1_000);
    await control.desk.tick();
  }
  assert.equal(await stateOf(control), "rolled_back rollback by guard: arm b: error rate 20.0 %, control 0.8 %");
  const [record] = await control.listExperiments();
  assert.equal(record!.revision, 2n);
});

test("a guard that pauses leaves the shares, one that alerts leaves everything", async (t) => {
  for (const [action, expected] of [
    ["pause", "paused pause by guard"],
    ["alert", "running start by kim"],
  ] as const) {
    const { clock, open } = await scene(t);
    const control = await open();
    await started(control, { guards: { errorRate: 0.005, action } });
    for (const count of [100, 130, 160, 190]) {
      await control.report(seen("engine-1", [count, 1], [count, count / 5]));
      clock.advance(1_000);
      await control.desk.tick();
    }
    assert.ok((await stateOf(control)).startsWith(expected), await stateOf(control));
    const weights = (await control.listExperiments())[0]!.arms.map(({ weight }) => weight);
    assert.deepEqual(weights, [0.5, 0.5]);
  }
});

test("scores move the quality, and a quality guard rolls back", async (t) => {
  const { clock, open, score } = await scene(t);
  const control = await open();
  await started(control, { guards: { quality: -0.02 } });
  for (let each = 0; each < 60; each++) {
    await score({ responseId: `a${each}`, arm: "control", score: each % 2 === 0 ? 0.9 : 1 });
    await score({ responseId: `b${each}`, arm: "b", score: each % 2 === 0 ? 0.2 : 0.3 });
    await score({ responseId: `old${each}`, arm: "b", score: 1, revision: 0n });
  }
  const quality = (await control.compareExperiment("e")).arms[1]!.metrics.find(({ metric }) => metric === "quality")!;
  assert.deepEqual([quality.count, Math.round(quality.mean * 100)], [60, 25]);
  for (const count of [100, 130]) {
    await control.report(seen("engine-1", [count, 1], [count, 1]));
    clock.advance(1_000);
    await control.desk.tick();
  }
  assert.equal(await stateOf(control), "rolled_back rollback by guard: arm b: quality 0.250, control 0.950");
});

test("a plan goes through its steps by itself and ends with the arm promoted; a restart on the way changes nothing", async (t) => {
  const { clock, open } = await scene(t);
  let control = await open();
  await started(control, { steps: [0.1, 0.5, 1], stepMs: 60_000, stepRequests: 100 });
  const weights = async (): Promise<number[]> => (await control.listExperiments())[0]!.arms.map(({ weight }) => weight);
  assert.deepEqual(await weights(), [0.9, 0.1]);
  let revision = 1n;
  const step = async (outcomes: number, units: readonly [number, number]): Promise<void> => {
    const report = seen("engine-1", [outcomes, 0], [outcomes, 0], revision);
    for (const [at, arm] of report.observations[0]!.arms.entries()) {
      arm.units = units[at]!;
      arm.metrics["ttft"] = { $typeName: "signalbox.control.v1.Moments", count: outcomes, mean: 5, m2: outcomes * 0.1 };
    }
    await control.report(report);
    await control.desk.tick();
    clock.advance(60_000);
    await control.desk.tick();
    revision = (await control.listExperiments())[0]!.revision;
  };
  await step(100, [900, 100]);
  assert.deepEqual(await weights(), [0.9, 0.1], "100 outcomes were there when the step began");
  await step(250, [900, 100]);
  assert.deepEqual(await weights(), [0.5, 0.5]);
  control = await open();
  await step(400, [500, 500]);
  await step(600, [500, 500]);
  assert.deepEqual([await weights(), await stateOf(control)], [[0, 1], "promoted promote by plan: step 2 passed"]);
});

test("a step that ends before its first analysis is held against its guards all the same", async (t) => {
  const { clock, open } = await scene(t);
  const control = await open();
  await started(control, { steps: [0.5, 1], stepMs: 60_000, stepRequests: 10, guards: { errorRate: 0.005 } });
  const tick = async (count: number): Promise<void> => {
    await control.report(seen("engine-1", [count, 0], [count, count / 2]));
    await control.desk.tick();
  };
  await tick(0.001);
  clock.advance(60_000);
  await tick(20);
  assert.deepEqual(await stateOf(control), "running start by kim: ");
  clock.advance(300_000);
  await tick(20);
  assert.equal(await stateOf(control), "paused pause by plan: step 1: too few samples for error_rate");
});

test("a plan whose analysis fails four times in a row pauses, and no other experiment waits for it", async (t) => {
  const { clock, open, failReads } = await scene(t);
  const control = await open();
  await started(control, { steps: [0.5, 1], stepMs: 1, stepRequests: 1 });
  failReads(true);
  for (let count = 1; count <= 4; count++) {
    assert.match(await stateOf(control), /^running/);
    clock.advance(1_000);
    await control.desk.tick();
  }
  failReads(false);
  assert.equal(await stateOf(control), "paused pause by plan: the analysis failed 4 times in a row");
});

test("replicas tell what they applied, late news does not count, and who is silent is gone", async (t) => {
  const { clock, open } = await scene(t);
  const control = await open();
  const tell = (replica: string, appliedRevision: bigint, appliedAtMs: number): Promise<unknown> =>
    control.report(create(ReportRequestSchema, { replica, role: "ingress", appliedRevision, appliedAtMs }));
  await tell("b", 1n, 5);
  await tell("a", 3n, 7);
  await tell("a", 2n, 6);
  const listed = async (): Promise<unknown> =>
    (await control.replicas()).map(({ replica, revision, appliedAtMs }) => [replica, Number(revision), appliedAtMs]);
  assert.deepEqual(await listed(), [
    ["a", 3, 7],
    ["b", 1, 5],
  ]);
  await control.report(create(ReportRequestSchema, { replica: "a", role: "policy-engine", appliedRevision: 1n, appliedAtMs: 9 }));
  assert.deepEqual((await control.replicas()).map(({ role, revision }) => [role, Number(revision)]).at(-1), ["policy-engine", 1]);
  clock.advance(10_001);
  await tell("b", 3n, 8);
  assert.deepEqual(await listed(), [["b", 3, 8]]);
});
