import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  ControlStateSchema,
  PromoteExperimentRequestSchema,
  RollbackModelRequestSchema,
  StartExperimentRequestSchema,
  type ControlState,
  type RollbackModelRequest,
} from "#gen/signalbox/control/v1/control_service_pb.ts";
import { type Config, defaultBackend, defaultConfig, defaultModel } from "#libs/config/index.ts";
import { withModelRevisions } from "#libs/experiments/index.ts";
import { promoteExperiment, startExperiment } from "./experiments.ts";
import { listModels, modelRecord, noteModels, rollbackModel } from "./models.ts";

function configWith(...candidates: readonly string[]): Config {
  const backends = new Map(["a", "b", "c"].map((name) => [name, defaultBackend({ name, provider: "openai", model: name })]));
  return defaultConfig({ backends, models: new Map([["chat", defaultModel("chat", candidates, { aliases: ["gpt"] })]]) });
}

const request = (parts: object = {}): RollbackModelRequest => create(RollbackModelRequestSchema, { name: "chat", by: "kim", ...parts });

/** A state in which the file named these candidates one after the other. */
function stateAfter(...versions: readonly (readonly string[])[]): ControlState {
  const state = create(ControlStateSchema, { revision: 1n });
  for (const [at, candidates] of versions.entries()) noteModels(state, { config: configWith(...candidates), nowMs: at * 10 });
  return state;
}

test("the file's versions of a model are its revisions, noted once", () => {
  const state = stateAfter(["a"], ["a"], ["a", "b"]);
  const [record] = listModels(state, { config: configWith("a", "b"), nowMs: 30 });
  assert.equal(record!.revision, 2n);
  assert.deepEqual(
    record!.history.map(({ action, by, candidates }) => [action, by, candidates]),
    [
      ["file", "configuration", ["a"]],
      ["file", "configuration", ["a", "b"]],
    ],
  );
});

test("a rollback takes back the last revision, the next one the one before, until there is none", () => {
  const config = configWith("c");
  const state = stateAfter(["a"], ["b"], ["c"]);
  const inForce = (): readonly string[] => withModelRevisions(config, state.models).models.get("chat")!.candidates;
  assert.deepEqual(inForce(), ["c"]);
  assert.equal(rollbackModel(state, { config, nowMs: 40 }, request({ name: "gpt", reason: "worse" })), undefined);
  assert.deepEqual(inForce(), ["b"]);
  const record = modelRecord(state, { config, nowMs: 40 }, "chat");
  assert.deepEqual([record.revision, record.candidates, record.history.at(-1)?.reason], [4n, ["b"], "worse"]);
  rollbackModel(state, { config, nowMs: 50 }, request());
  assert.deepEqual(inForce(), ["a"]);
  assert.throws(() => rollbackModel(state, { config, nowMs: 60 }, request()), /no revision before/);
});

test("a rollback holds until the file's block changes, then the file stands again", () => {
  const state = stateAfter(["a"], ["b"]);
  rollbackModel(state, { config: configWith("b"), nowMs: 30 }, request());
  assert.deepEqual(withModelRevisions(configWith("b"), state.models).models.get("chat")!.candidates, ["a"]);
  assert.deepEqual(withModelRevisions(configWith("c"), state.models).models.get("chat")!.candidates, ["c"]);
  noteModels(state, { config: configWith("c"), nowMs: 40 });
  assert.equal(modelRecord(state, { config: configWith("c"), nowMs: 40 }, "chat").revision, 4n);
});

test("where the last thing was an experiment's promotion, that is what has to be taken back", () => {
  const config = configWith("a", "b");
  const state = stateAfter(["a"], ["a", "b"]);
  const arms = [{ name: "b", weight: 0.5, backends: ["b"] }];
  startExperiment(state, { config, nowMs: 100 }, create(StartExperimentRequestSchema, { name: "e", model: "chat", arms }));
  promoteExperiment(state, { config, nowMs: 110 }, create(PromoteExperimentRequestSchema, { name: "e", arm: "b" }));
  assert.equal(rollbackModel(state, { config, nowMs: 120 }, request()), "e");
});

test("an unknown model, and one whose version before used a backend that is gone, are refused", () => {
  const state = stateAfter(["a"], ["b"]);
  const config = configWith("b");
  assert.throws(() => rollbackModel(state, { config, nowMs: 30 }, request({ name: "x" })), /no model "x"; known: chat/);
  const without = { ...config, backends: new Map([...config.backends].filter(([name]) => name !== "a")) };
  assert.throws(() => rollbackModel(state, { config: without, nowMs: 30 }, request()), /backend a, which is gone/);
});
