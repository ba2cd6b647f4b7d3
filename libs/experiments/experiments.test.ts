import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, defaultConfig, type ExperimentConfig } from "#libs/config/index.ts";
import { experimentOfUnit } from "./assign.ts";
import { encodeExperiment, experimentsInForce } from "./stored.ts";

const NO_GUARDS = { errorRate: undefined, ttft: undefined, cost: undefined, quality: undefined, action: "rollback" } as const;

function configWith(weight: number | undefined): Config {
  const arm = (
    share: number,
    backends?: readonly string[],
  ): { weight: number; backends: readonly string[] | undefined; request: undefined } => ({
    weight: share,
    backends,
    request: undefined,
  });
  const experiment = (share: number): ExperimentConfig => ({
    name: "e",
    model: "m",
    unit: "user",
    layer: "m",
    arms: new Map([
      ["control", arm(1 - share)],
      ["b", arm(share, ["gpu-b"])],
    ]),
    guards: NO_GUARDS,
    shareShadow: 0,
    shadowBudgetNanoUsd: 0n,
    steps: [],
    judge: undefined,
  });
  return { ...defaultConfig(), experiments: new Map(weight === undefined ? [] : [["e", experiment(weight)]]) };
}

test("a stored revision wins until the file's block changes, and the file's revision follows it", () => {
  const config = configWith(0.1);
  const first = experimentsInForce(config, {}).get("e")!;
  assert.deepEqual([first.revision, first.control, first.arms[1]!.ranges], [1, "control", [[9000, 10_000]]]);
  const stored = { e: encodeExperiment({ ...first, revision: 7, state: "rolled_back" }) };
  assert.deepEqual(
    [experimentsInForce(config, stored).get("e")!.revision, experimentsInForce(config, stored).get("e")!.state],
    [7, "rolled_back"],
  );
  const changed = experimentsInForce(configWith(0.2), stored).get("e")!;
  assert.deepEqual([changed.revision, changed.state], [8, "running"]);
  assert.equal(experimentsInForce(configWith(undefined), stored).get("e"), undefined, "a block that is gone ends its experiment");
});

test("an experiment that only the store knows is in force, an unreadable one is not", () => {
  const base = experimentsInForce(configWith(0.1), {}).get("e")!;
  const stored = { x: encodeExperiment({ ...base, name: "x", basis: "" }), y: Buffer.from("{}") };
  assert.deepEqual([...experimentsInForce(configWith(undefined), stored).keys()], ["x"]);
});

test("a third experiment in a layer takes a third of the units and moves nobody between the others", () => {
  const units = Array.from({ length: 30_000 }, (_, index) => `user-${index}`);
  let taken = 0;
  for (const unit of units) {
    const before = experimentOfUnit("layer", ["a", "b"], unit);
    const after = experimentOfUnit("layer", ["a", "b", "c"], unit);
    if (after === 2) taken++;
    else assert.equal(after, before);
  }
  assert.ok(Math.abs(taken / units.length - 1 / 3) < 0.02, `${taken}`);
});
