import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import {
  ControlStateSchema,
  PromoteExperimentRequestSchema,
  RollbackExperimentRequestSchema,
  SetExperimentWeightsRequestSchema,
  StartExperimentRequestSchema,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { systemRandom } from "#libs/clock/index.ts";
import { createConfigSource, defaultBackend, defaultConfig, defaultModel } from "#libs/config/index.ts";
import { decodeExperiment, type Experiment } from "#libs/experiments/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { SqliteDatabase } from "../sqlite-database.ts";
import { Control } from "./control.ts";

const config = defaultConfig({
  backends: new Map(["a", "b"].map((name) => [name, defaultBackend({ name, provider: "openai", model: name })])),
  models: new Map([["chat", defaultModel("chat", ["a", "b"], { aliases: ["gpt"] })]]),
});

interface Scene {
  readonly control: Control;
  readonly clock: FakeClock;
  /** The experiment as last pushed. */
  readonly pushed: () => Experiment;
  readonly reopen: () => Promise<Control>;
}

async function scene(t: TestContext): Promise<Scene> {
  const directory = mkdtempSync(join(tmpdir(), "signalbox-experiments-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  let last: Experiment | undefined;
  bus.subscribe(SUBJECTS.controlChanged, ({ payload }) => {
    const stored = fromBinary(ControlStateSchema, payload).experiments["cheap"];
    if (stored !== undefined) last = decodeExperiment(stored);
  });
  const reopen = async (): Promise<Control> => {
    const store = new SqliteDatabase(join(directory, "ledger.db"));
    await store.start();
    t.after(() => store.stop());
    return new Control({ store, bus, clock, random: systemRandom, config: createConfigSource(config), logger: silentLogger });
  };
  return { control: await reopen(), clock, pushed: () => last!, reopen };
}

const START = create(StartExperimentRequestSchema, {
  name: "cheap",
  model: "gpt",
  arms: [{ name: "b", weight: 0.2, backends: ["b"] }],
  by: "kim",
});
const WEIGHTS = (b: number): ReturnType<typeof create<typeof SetExperimentWeightsRequestSchema>> =>
  create(SetExperimentWeightsRequestSchema, { name: "cheap", weights: { b }, by: "kim" });
const ROLLBACK = create(RollbackExperimentRequestSchema, { name: "cheap", by: "guard", reason: "error rate" });

test("a second layer on a model is refused while the first runs: its experiment would get nobody", async (t) => {
  const { control } = await scene(t);
  await control.startExperiment(START);
  const second = { ...START, name: "other", layer: "second" };
  await assert.rejects(
    async () => control.startExperiment(create(StartExperimentRequestSchema, second)),
    /cheap is on chat in the layer chat/,
  );
  await control.rollbackExperiment(create(RollbackExperimentRequestSchema, { name: "cheap", by: "kim" }));
  await control.startExperiment(create(StartExperimentRequestSchema, second));
});

test("an experiment starts with a control arm, ramps, rolls back and is promoted, each a revision with who and when", async (t) => {
  const { control, clock, pushed } = await scene(t);
  const started = await control.startExperiment(START);
  assert.deepEqual(
    [started.model, started.revision, started.arms.map(({ name, weight }) => [name, weight])],
    [
      "chat",
      1n,
      [
        ["control", 0.8],
        ["b", 0.2],
      ],
    ],
  );
  await clock.advanceAsync(1_000);
  await control.setExperimentWeights(WEIGHTS(0.5));
  const rolledBack = await control.rollbackExperiment(ROLLBACK);
  assert.deepEqual([rolledBack.state, rolledBack.revision, rolledBack.arms.map(({ weight }) => weight)], ["rolled_back", 3n, [1, 0]]);
  assert.equal((await control.rollbackExperiment(ROLLBACK)).revision, 3n, "a second one changes nothing");
  await control.promoteExperiment(create(PromoteExperimentRequestSchema, { name: "cheap", arm: "b", by: "kim" }));
  await clock.advanceAsync(1);
  assert.deepEqual([pushed().state, pushed().arms.map(({ ranges }) => ranges)], ["promoted", [[], [[0, 10_000]]]]);
  assert.deepEqual(
    pushed().history.map(({ revision, action, by, reason }) => [revision, action, by, reason]),
    [
      [1, "start", "kim", ""],
      [2, "ramp", "kim", ""],
      [3, "rollback", "guard", "error rate"],
      [4, "promote", "kim", ""],
    ],
  );
});

test("a rollback survives a restart, and one of a revision that has gone leaves the newer alone", async (t) => {
  const { control, reopen } = await scene(t);
  await control.startExperiment(START);
  await control.setExperimentWeights(WEIGHTS(0.5));
  const late = await control.rollbackExperiment({ ...ROLLBACK, ifRevision: 1n });
  assert.deepEqual([late.state, late.revision], ["running", 2n]);
  await control.rollbackExperiment(ROLLBACK);
  const [listed] = await (await reopen()).listExperiments();
  assert.deepEqual([listed!.state, listed!.revision, listed!.arms[1]!.weight], ["rolled_back", 3n, 0]);
});

test("what makes no sense is refused", async (t) => {
  const { control } = await scene(t);
  const refused = (parts: Partial<typeof START>, param: string): Promise<void> =>
    assert.rejects(control.startExperiment({ ...START, ...parts }), { reason: "REQUEST_MALFORMED", param });
  await refused({ name: "a b" }, "name");
  await refused({ model: "none" }, "model");
  await refused({ unit: "planet" }, "unit");
  await refused({ arms: [] }, "arms");
  await refused({ arms: [{ ...START.arms[0]!, backends: ["none"] }] }, "arms");
  await refused({ arms: [{ ...START.arms[0]!, weight: 1.2 }] }, "weights");
  await control.startExperiment(START);
  await refused({}, "name");
  await assert.rejects(control.setExperimentWeights({ ...WEIGHTS(0.1), weights: { c: 0.1 } }), { param: "arm" });
  await assert.rejects(control.rollbackExperiment({ ...ROLLBACK, name: "none" }), { reason: "ROUTE_UNKNOWN" });
});

test("an arm may change the request, keeps its change through ramps, and cannot change what is the caller's", async (t) => {
  const { control, clock, pushed } = await scene(t);
  const request = { system: "Be brief.", temperature: 0 };
  const arms = (requestJson: string): typeof START =>
    create(StartExperimentRequestSchema, { name: "cheap", model: "gpt", arms: [{ name: "b", weight: 0.2, requestJson }] });
  const started = await control.startExperiment(arms(JSON.stringify(request)));
  assert.deepEqual(
    started.arms.map(({ requestJson }) => requestJson),
    ["", JSON.stringify(request)],
  );
  await control.setExperimentWeights(WEIGHTS(0.5));
  await clock.advanceAsync(0);
  assert.deepEqual(pushed().arms.find(({ name }) => name === "b")?.request, request);
  for (const wrong of ["{", "[]", "7", '{"messages":[]}', '{"max_tokens":-1}', '{"Temperature":1}', '{"system":""}']) {
    await assert.rejects(
      control.startExperiment(Object.assign(arms(wrong), { name: "other" })),
      { reason: "REQUEST_MALFORMED", param: "arms" },
      wrong,
    );
  }
});
