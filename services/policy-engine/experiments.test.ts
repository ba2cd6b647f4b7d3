import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { ControlAppliedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { SUBJECTS } from "#libs/bus/index.ts";
import { type DecideRequest, type Decision, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Config, ExperimentConfig } from "#libs/config/index.ts";
import {
  blockDigest,
  encodeExperiment,
  encodeModelHistory,
  type Experiment,
  experimentOf,
  experimentsInForce,
  noteFileVersion,
  takeBack,
} from "#libs/experiments/index.ts";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { extendRanges } from "#libs/statistics/index.ts";
import { compileSnapshot, type PolicySnapshot } from "./snapshot.ts";
import { backend, book, chosen, config, DONE, ended, failed, model, report, request, STARTED, world, type World } from "./fixture.ts";

const NO_GUARDS = { errorRate: undefined, ttft: undefined, cost: undefined, quality: undefined, action: "rollback" } as const;

function experiment(name: string, share: number, parts: Partial<ExperimentConfig> = {}): ExperimentConfig {
  return {
    name,
    model: "chat",
    unit: "user",
    layer: "chat",
    arms: new Map([
      ["control", { weight: 1 - share, backends: undefined, request: undefined }],
      ["b", { weight: share, backends: ["gpu-b"], request: undefined }],
    ]),
    guards: NO_GUARDS,
    shareShadow: 0,
    shadowBudgetNanoUsd: 0n,
    steps: [],
    judge: undefined,
    ...parts,
  };
}

function configWith(...experiments: readonly ExperimentConfig[]): Config {
  const names = ["gpu-a", "gpu-b", "cloud"];
  return config(
    names.map((name) => backend(name)),
    [model("chat", names, { aliases: ["gpt"] }), model("other", names)],
    { experiments: new Map(experiments.map((each) => [each.name, each])) },
  );
}

/** Decides and lets go again. */
function decide(scene: World, asked = request("chat", { unit: "u" })): Decision {
  const decision = scene.now(asked);
  scene.session.report(report(asked.decisionId, "", DONE));
  return decision;
}

async function store(scene: World, revision: bigint, stored: Experiment): Promise<void> {
  const state = create(ControlStateSchema, { revision, experiments: { [stored.name]: encodeExperiment(stored) } });
  scene.bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, state));
  await scene.clock.advanceAsync(0);
}

/** Backends an ingress would try if no engine answered. */
function fallbackOf(scene: World): readonly string[] | undefined {
  const chat = scene.session.fallback?.models.find((each) => each.model === "chat");
  return chat?.candidates.map((each) => each.backend).toSorted();
}

/** A stored revision of an experiment the file knows nothing of. */
function stored(revision: number, share: number): Experiment {
  const base = experimentOf(experiment("e", 0.5), revision, "");
  const weights = [
    { name: "control", weight: 1 - share },
    { name: "b", weight: share },
  ];
  const ranges = extendRanges(base.arms, weights);
  return { ...base, arms: base.arms.map((arm, at) => ({ ...arm, weight: weights[at]!.weight, ranges: ranges[at]!.ranges })) };
}

test("units fall into the arms by weight, stick, and are served by their arm's backends alone", async () => {
  const scene = await world(configWith(experiment("e", 0.2)));
  let inB = 0;
  for (let user = 0; user < 2_000; user++) {
    const asked = request("gpt", { unit: `user-${user}` });
    const decision = scene.now(asked);
    assert.deepEqual([decision.experiment, decision.experimentRevision, decision.model], ["e", 1n, "chat"]);
    assert.deepEqual([...chosen(decision)].toSorted(), decision.arm === "b" ? ["gpu-b"] : ["cloud", "gpu-a"]);
    if (decision.arm === "b") inB++;
    scene.session.report(report(asked.decisionId, "", DONE));
    if (user % 50 > 0) continue;
    const again = request("chat", { unit: `user-${user}` });
    assert.equal(scene.now(again).arm, decision.arm);
    scene.session.report(report(again.decisionId, "", DONE));
  }
  assert.ok(Math.abs(inB / 2_000 - 0.2) < 0.03, `${inB}`);
  assert.equal(scene.now(request("other")).experiment, "");
});

test("a stored revision takes over at once, and after a rollback nobody reaches the arm's backends", async () => {
  const scene = await world(configWith());
  assert.equal(chosen(decide(scene)).length, 3);
  await store(scene, 1n, stored(4, 1));
  const before = decide(scene);
  assert.deepEqual([before.arm, before.experimentRevision, chosen(before)], ["b", 4n, ["gpu-b"]]);
  await scene.clock.advanceAsync(300);
  assert.deepEqual(fallbackOf(scene), ["gpu-b"]);
  await store(scene, 2n, { ...stored(5, 0), state: "rolled_back" });
  await scene.clock.advanceAsync(300);
  for (let user = 0; user < 200; user++) {
    const decision = decide(scene, request("chat", { unit: `user-${user}` }));
    assert.deepEqual([decision.arm, decision.experimentRevision, chosen(decision).includes("gpu-b")], ["control", 5n, false]);
  }
  assert.deepEqual(fallbackOf(scene), ["cloud", "gpu-a"]);
});

test("a million users have the same arms in every engine and after a restart, and 50 -> 60 moves no more than it must", (t) => {
  const tableOf = (share: number, revision: number): PolicySnapshot["experiments"] => {
    const state = create(ControlStateSchema, { revision: 1n, experiments: { e: encodeExperiment(stored(revision, share)) } });
    const received = fromBinary(ControlStateSchema, toBinary(ControlStateSchema, state));
    return compileSnapshot(configWith(), received, EMPTY_PRICE_INDEX).experiments;
  };
  const [one, another, ramped] = [tableOf(0.5, 4), tableOf(0.5, 4), tableOf(0.6, 5)];
  const asked = request("chat");
  const users = 1_000_000;
  let [inB, differ, moved, back] = [0, 0, 0, 0];
  for (let user = 0; user < users; user++) {
    asked.unit = `user-${user}`;
    const arm = one.assign(asked, "chat")!.arm.name;
    const later = ramped.assign(asked, "chat")!.arm.name;
    if (arm === "b") inB++;
    if (another.assign(asked, "chat")!.arm.name !== arm) differ++;
    if (later !== arm) moved++;
    if (arm === "b" && later !== "b") back++;
  }
  t.diagnostic(`${((100 * inB) / users).toFixed(2)} % in b, ${differ} differ, 50 -> 60 moves ${((100 * moved) / users).toFixed(2)} %`);
  assert.ok(Math.abs(inB / users - 0.5) <= 0.005 && moved / users <= 0.105, `${inB} ${moved}`);
  assert.deepEqual([differ, back], [0, 0]);
});

test("an engine says at once which revision it runs, and again whenever it asks", async () => {
  const scene = await world(configWith());
  const applied: unknown[] = [];
  scene.bus.subscribe(SUBJECTS.controlApplied, ({ payload }) => {
    const { replica, role, revision } = fromBinary(ControlAppliedSchema, payload);
    applied.push([replica, role, revision]);
  });
  await store(scene, 7n, stored(4, 1));
  await scene.clock.advanceAsync(0);
  assert.deepEqual(applied, [["engine-1", "policy-engine", 7n]]);
  await scene.clock.advanceAsync(2_000);
  const last = scene.reports.at(-1)!;
  assert.deepEqual([last.replica, last.role, last.appliedRevision], ["engine-1", "policy-engine", 7n]);
  assert.ok(last.appliedAtMs > 0);
});

test("a model whose last revision was taken back has the candidates it had before", async () => {
  const names = ["gpu-a", "gpu-b"];
  const at = (candidates: readonly string[]): Config =>
    config(
      names.map((name) => backend(name)),
      [model("chat", candidates)],
    );
  const before = noteFileVersion(undefined, at(["gpu-a"]).models.get("chat")!, 1)!;
  const changed = noteFileVersion(before, at(["gpu-b"]).models.get("chat")!, 2)!;
  const scene = await world(at(["gpu-b"]));
  assert.deepEqual(chosen(decide(scene)), ["gpu-b"]);
  const models = { chat: encodeModelHistory(takeBack(changed, "kim", "", 3)!) };
  scene.bus.publish(SUBJECTS.controlChanged, toBinary(ControlStateSchema, create(ControlStateSchema, { revision: 1n, models })));
  await scene.clock.advanceAsync(0);
  assert.deepEqual(chosen(decide(scene)), ["gpu-a"]);
});

test("a forced arm is taken whatever its weight", async () => {
  const scene = await world(configWith(experiment("e", 0)));
  const decision = scene.now(request("chat", { unit: "u", forcedArm: "e=b" }));
  assert.deepEqual([decision.arm, chosen(decision)], ["b", ["gpu-b"]]);
});

test("experiments of one layer share no unit", async () => {
  const arms = (name: string): Partial<ExperimentConfig> => ({
    arms: new Map([
      ["control", { weight: 0.5, backends: undefined, request: undefined }],
      ["b", { weight: 0.5, backends: [name], request: undefined }],
    ]),
  });
  const scene = await world(configWith(experiment("e", 0.5, arms("gpu-b")), experiment("f", 0.5, arms("cloud"))));
  const counts = new Map<string, number>();
  for (let user = 0; user < 400; user++) {
    const asked = request("chat", { unit: `user-${user}` });
    const decision = scene.now(asked);
    scene.session.report(report(asked.decisionId, "", DONE));
    counts.set(decision.experiment, (counts.get(decision.experiment) ?? 0) + 1);
    if (decision.arm === "control") assert.deepEqual(chosen(decision), ["gpu-a"]);
  }
  assert.ok((counts.get("e") ?? 0) > 140 && (counts.get("f") ?? 0) > 140, JSON.stringify([...counts]));
});

test("an experiment that was rolled back leaves its units to the others of its layer", async () => {
  const scene = await world(configWith(experiment("e", 0.5), experiment("f", 0.5)));
  const { basis } = experimentsInForce(scene.config.current, {}).get("f")!;
  const f = experimentOf(scene.config.current.experiments.get("f")!, 2, basis);
  await store(scene, 1n, { ...f, state: "rolled_back" });
  for (let user = 0; user < 50; user++) assert.equal(decide(scene, request("chat", { unit: `user-${user}` })).experiment, "e");
});

test("an arm with nobody healthy falls back to control and says why", async () => {
  const scene = await world(configWith(experiment("e", 1)));
  for (let count = 0; count < 8; count++) {
    const asked = request("chat", { unit: "u" });
    if (scene.now(asked).arm !== "b") break;
    scene.session.report(report(asked.decisionId, "gpu-b", STARTED));
    scene.session.report(report(asked.decisionId, "gpu-b", { case: "ended", value: failed("UPSTREAM_UNAVAILABLE") }));
    scene.session.report(report(asked.decisionId, "gpu-b", DONE));
  }
  const decision = decide(scene);
  assert.deepEqual([decision.experiment, decision.arm, [...chosen(decision)].toSorted()], ["e", "control", ["cloud", "gpu-a"]]);
  const why = decision.excluded.find((candidate) => candidate.backend === "gpu-b")?.excluded;
  assert.equal(why?.requirement, "health");
  assert.match(why.detail, /^arm b: /);
});

test("an arm's change is in its decisions alone, and counts for capability and estimate", async () => {
  const change = { system: "x".repeat(4_000), max_tokens: 50, response_format: { type: "json_schema", json_schema: {} } };
  const arms = new Map([
    ["control", { weight: 0, backends: undefined, request: undefined }],
    ["b", { weight: 1, backends: undefined, request: change }],
  ]);
  const names = ["gpu-a", "gpu-b"];
  const able = backend("gpu-b", { capabilities: new Set(["json_schema"]) });
  const unable = backend("gpu-a", { capabilities: new Set([]) });
  const experiments = new Map([["x", experiment("x", 1, { arms })]]);
  const scene = await world(config([unable, able], [model("chat", names)], { experiments }), book({ "gpu-b": { input: 1, output: 0 } }));
  const inB = decide(scene);
  assert.deepEqual([inB.arm, ...chosen(inB)], ["b", "gpu-b"]);
  assert.ok(Buffer.from(inB.requestChange).equals(Buffer.from(JSON.stringify(change))));
  const control = decide(scene, request("chat", { unit: "u", forcedArm: "x=control" }));
  assert.deepEqual([control.arm, control.requestChange.length], ["control", 0]);
  const cost = (decision: Decision): bigint =>
    decision.result.case === "allow" ? decision.result.value.candidates.find((each) => each.backend === "gpu-b")!.costNanoUsd : -1n;
  assert.ok(cost(inB) > cost(control), "a longer prompt is dearer");
  const embeddings = decide(scene, request("chat", { unit: "u", operation: Operation.EMBEDDINGS }));
  assert.equal(embeddings.requestChange.length, 0);
});

test("a judge's question takes part in no experiment, and a copy goes to its arm or nowhere", async () => {
  const scene = await world(configWith(experiment("x", 1)));
  assert.equal(decide(scene, request("chat", { unit: "u", role: "judge" })).experiment, "");
  const copy = request("chat", { forcedArm: "x=b", role: "shadow" });
  assert.deepEqual([decide(scene, copy).arm, decide(scene, copy).maxAttempts], ["b", 1]);
  for (let failures = 0; failures < 5; failures++) {
    const tried = scene.now({ ...copy, decisionId: `f${failures}` });
    scene.session.report(report(tried.decisionId, "gpu-b", STARTED));
    scene.session.report(report(tried.decisionId, "gpu-b", { case: "ended", value: failed("UPSTREAM_UNAVAILABLE") }));
    scene.session.report(report(tried.decisionId, "", DONE));
  }
  const refused = decide(scene, copy);
  assert.deepEqual([refused.result.case, refused.arm], ["deny", "b"]);
  await scene.clock.advanceAsync(1_000);
  assert.deepEqual(
    scene.reports.flatMap(({ observations }) => observations.flatMap(({ arms }) => arms.map(({ arm }) => arm))),
    ["shadow:b"],
    "copies are no traffic of the arm",
  );
  assert.equal(decide(scene, request("chat", { unit: "u" })).arm, "control");
});

test("fault: what an ingress served by its fallback, because the decision came too late, counted as an outcome of the arm", async () => {
  const scene = await world(configWith(experiment("x", 0)));
  for (const late of [false, true]) {
    const asked = request("chat", { unit: "u", decisionId: late ? "late" : "heard" });
    const [first] = chosen(scene.now(asked));
    if (late) scene.session.unheard!(asked.decisionId);
    scene.session.report(report(asked.decisionId, first!, STARTED));
    scene.session.report(report(asked.decisionId, first!, { case: "ended", value: ended() }));
    scene.session.report(report(asked.decisionId, "", DONE));
  }
  await scene.clock.advanceAsync(1_000);
  const arms = scene.reports.at(-1)!.observations.flatMap((each) => each.arms);
  assert.deepEqual(
    arms.map(({ arm, metrics }) => [arm, metrics["error"]?.count]),
    [["control", 1]],
  );
});

test("copies that fail at a backend of the clients leave it to them, and leave them half of a provider's rate", async () => {
  const arms = new Map([
    ["control", { weight: 1, backends: ["cloud"], request: undefined }],
    ["b", { weight: 0, backends: ["cloud"], request: { system: undefined, systemAppend: "Be brief.", parameters: {} } }],
  ]);
  const own = configWith(experiment("x", 0, { arms, shareShadow: 1 }));
  const scene = await world({
    ...own,
    backends: new Map([["cloud", backend("cloud", { limits: { rpm: 100, tpm: undefined } })]]),
    models: new Map([["chat", model("chat", ["cloud"])]]),
  });
  const copy = (): DecideRequest => request("chat", { forcedArm: "x=b", role: "shadow" });
  for (let count = 0; count < 20; count++) {
    const { decisionId } = scene.now(copy());
    scene.session.report(report(decisionId, "cloud", STARTED));
    scene.session.report(report(decisionId, "cloud", { case: "ended", value: failed("UPSTREAM_UNAVAILABLE") }));
    scene.session.report(report(decisionId, "", DONE));
  }
  assert.deepEqual(chosen(decide(scene)), ["cloud"], "its breaker is closed");
  for (let count = 0; count < 29; count++) assert.deepEqual(chosen(decide(scene, copy())), ["cloud"]);
  assert.deepEqual(chosen(decide(scene, copy())), ["[UPSTREAM_RATE_LIMITED]"]);
  for (let count = 0; count < 50; count++) assert.deepEqual(chosen(decide(scene)), ["cloud"]);
});

test("a share of what the control arm answers is copied to the arms that have no units, until the experiment ends", async () => {
  const names = ["control", "b", "c"];
  const arms = new Map(
    names.map((name, at) => [name, { weight: at === 0 ? 1 : 0, backends: at === 0 ? undefined : ["gpu-b"], request: undefined }]),
  );
  const half = experiment("x", 0, { arms, shareShadow: 0.5 });
  const scene = await world(configWith(half));
  const copies = Array.from({ length: 400 }, () => decide(scene).shadowArm);
  const counts = ["", "b", "c"].map((name) => copies.filter((each) => each === name).length);
  assert.ok(counts[0]! > 160 && counts[0]! < 240 && counts[1]! > 60 && counts[2]! > 60, String(counts));
  const copied = request("chat", { role: "shadow", forcedArm: "x=b" });
  assert.equal(decide(scene, copied).shadowArm, "", "a copy is not copied");
  assert.equal(decide(scene, request("chat", { operation: Operation.EMBEDDINGS })).shadowArm, "");
  const all = {
    ...half,
    shareShadow: 1,
    arms: new Map([
      ...arms,
      ["b", { weight: 0.5, backends: ["gpu-b"], request: undefined }],
      ["control", { weight: 0.5, backends: undefined, request: undefined }],
    ]),
  };
  scene.config.swap(configWith(all));
  const forced = decide(scene, request("chat", { forcedArm: "x=control" }));
  assert.deepEqual([forced.shadowExperiment, forced.shadowArm], ["x", "c"], "the arm without units");
  assert.equal(decide(scene, request("chat", { forcedArm: "x=b" })).shadowArm, "", "what another arm answers is not copied");
  await store(scene, 1n, { ...experimentOf(all, 2, blockDigest(all)), state: "rolled_back" });
  assert.equal(decide(scene, request("chat", { forcedArm: "x=control" })).shadowArm, "");
});
