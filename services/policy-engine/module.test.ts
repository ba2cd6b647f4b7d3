import assert from "node:assert/strict";
import { test } from "node:test";
import { type Decision, Operation, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { backend, book, chosen, config, DONE, ended, failed, model, report, request, STARTED, world, type World } from "./fixture.ts";

/** Runs one request to its end on its first candidate and says which that was. */
function serve(
  scene: World,
  asked = request("chat"),
  outcome: (name: string) => ReturnType<typeof ended> = () => ended(),
): { decision: Decision; name: string } {
  const decision = scene.now(asked);
  if (decision.result.case !== "allow") return { decision, name: chosen(decision)[0]! };
  const name = chosen(decision)[0]!;
  scene.session.report(report(asked.decisionId, name, STARTED));
  scene.session.report(report(asked.decisionId, name, { case: "ended", value: outcome(name) }));
  scene.session.report(report(asked.decisionId, name, DONE));
  return { decision, name };
}

function recordOf(scene: World, id: string): ReturnType<World["host"]["explain"]> {
  return scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "id", value: id } });
}

test("near sessions get a plain decision with every candidate in the order to try", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"], { aliases: ["gpt-4o-mini"] })]));
  const decision = scene.now(request("gpt-4o-mini"));
  assert.deepEqual([...chosen(decision)].toSorted(), ["a", "b"]);
  assert.equal(decision.model, "chat");
  assert.equal(decision.engine, "engine-1");
  assert.equal(decision.maxAttempts, 4);
  assert.equal(decision.priceVersion, "prices-1");
});

test("a backend that only fails is left within twenty failures and used again within fifteen seconds of its recovery", async () => {
  const names = ["a", "b", "c", "d"];
  const scene = await world(
    config(
      names.map((name) => backend(name)),
      [model("chat", names)],
    ),
  );
  for (let count = 0; count < 400; count++) serve(scene);
  let failures = 0;
  let trials = 0;
  for (let tenth = 0; tenth < 600; tenth++) {
    const { name, decision } = serve(scene, request("chat"), (served) => (served === "a" ? failed("UPSTREAM_UNAVAILABLE") : ended()));
    if (name === "a") {
      failures++;
      if (decision.result.case === "allow" && decision.result.value.candidates[0]!.standing === "trial") trials++;
    }
    await scene.clock.advanceAsync(100);
  }
  assert.ok(failures <= 20, `${failures} failures`);
  assert.ok(trials <= 5, `${trials} trials`);
  let recoveredS = Number.POSITIVE_INFINITY;
  for (let tenth = 0; tenth < 200 && recoveredS === Number.POSITIVE_INFINITY; tenth++) {
    if (serve(scene).name === "a") recoveredS = tenth / 10;
    await scene.clock.advanceAsync(100);
  }
  assert.ok(recoveredS <= 15, `${recoveredS} s`);
});

test("with every backend broken the answer is NO_BACKEND at once with a reason each, and service is back within five seconds", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]));
  for (let count = 0; count < 40; count++) serve(scene, request("chat"), () => failed("UPSTREAM_UNAVAILABLE"));
  const decision = scene.now(request("chat"));
  assert.ok(decision.result.case === "deny");
  assert.equal(decision.result.value.reason, "NO_BACKEND");
  assert.match(decision.result.value.detail, /a: health .*b: health/);
  assert.ok(decision.result.value.retryAfterMs >= 1_000);
  assert.deepEqual(
    decision.excluded.map((candidate) => candidate.excluded?.requirement),
    ["health", "health"],
  );
  let trials = 0;
  for (let tenth = 0; tenth < 300; tenth++) {
    await scene.clock.advanceAsync(100);
    const tried = serve(scene, request("chat"), () => failed("UPSTREAM_UNAVAILABLE")).decision;
    if (tried.result.case !== "allow") continue;
    assert.ok(tried.maxAttempts <= 2, "each backend is tried once by one request");
    trials++;
  }
  assert.ok(trials <= 12, `${trials} of 300 were trials`);
  let backMs = 0;
  while (serve(scene).decision.result.case === "deny") {
    backMs += 100;
    assert.ok(backMs <= 5_000, "not back after five seconds");
    await scene.clock.advanceAsync(100);
  }
});

test("a refusal with Retry-After keeps every request away until then and opens no breaker", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]));
  const asked = request("chat", { exclude: ["b"] });
  scene.now(asked);
  scene.session.report(
    report(asked.decisionId, "a", { case: "ended", value: failed("UPSTREAM_RATE_LIMITED", { retryAfterMs: 7_000, httpStatus: 429 }) }),
  );
  for (let tenth = 0; tenth < 70; tenth++) {
    assert.equal(serve(scene).name, "b");
    await scene.clock.advanceAsync(100);
  }
  const only = scene.now(request("chat", { exclude: ["b"] }));
  assert.deepEqual(chosen(only), ["a"]);
});

test("all backends rate limited is a 429 of the provider with the time to wait", async () => {
  const scene = await world(config([backend("a")], [model("chat", ["a"])]));
  serve(scene, request("chat"), () => failed("UPSTREAM_RATE_LIMITED", { retryAfterMs: 7_000, httpStatus: 429 }));
  const decision = scene.now(request("chat"));
  assert.ok(decision.result.case === "deny");
  assert.equal(decision.result.value.reason, "UPSTREAM_RATE_LIMITED");
  assert.equal(decision.result.value.retryAfterMs, 7_000);
});

test("a drained backend gets nothing new, and comes back when the drain ends", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]));
  await scene.drains("a");
  for (let count = 0; count < 50; count++) assert.equal(serve(scene).name, "b");
  const explained = scene.now(request("chat", { explain: true }));
  assert.deepEqual(
    explained.excluded.map(({ backend: name, excluded }) => [name, excluded?.requirement]),
    [["a", "drain"]],
  );
  await scene.drains();
  const seen = new Set(Array.from({ length: 100 }, () => serve(scene).name));
  assert.deepEqual([...seen].toSorted(), ["a", "b"]);
});

test("an unknown model is denied with the nearest name, and provider/model and backend names are models too", async () => {
  const scene = await world(config([backend("a", { model: "gpt-5-mini" })], [model("chat", ["a"])]));
  const decision = scene.now(request("chatt"));
  assert.ok(decision.result.case === "deny");
  assert.equal(decision.result.value.reason, "MODEL_UNKNOWN");
  assert.match(decision.result.value.detail, /did you mean 'chat'\?/);
  assert.deepEqual(chosen(scene.now(request("openai/gpt-5-mini"))), ["a"]);
  assert.deepEqual(chosen(scene.now(request("a"))), ["a"]);
});

test("a model outside the tenant's list is denied", async () => {
  const tenants = new Map([
    [
      "acme",
      {
        name: "acme",
        teams: [],
        budgets: [],
        limits: { rpm: undefined, tpm: undefined, concurrency: undefined, weight: 1 },
        models: ["vision"],
      },
    ],
  ]);
  const scene = await world(config([backend("a")], [model("chat", ["a"])], { tenants }));
  assert.deepEqual(chosen(scene.now(request("chat", { tenant: "acme" }))), ["[POLICY_DENIED]"]);
  assert.deepEqual(chosen(scene.now(request("chat"))), ["a"]);
});

test("a request no candidate can serve says which requirement ruled out whom", async () => {
  const scene = await world(
    config(
      [backend("a", { capabilities: new Set() }), backend("b", { capabilities: new Set(["tools"]), contextTokens: 600 })],
      [model("chat", ["a", "b"])],
    ),
  );
  const decision = scene.now(request("chat", { needs: 1, inputTokens: 5_000 }));
  assert.ok(decision.result.case === "deny");
  assert.equal(decision.result.value.reason, "NO_CAPABLE_BACKEND");
  assert.equal(decision.result.value.param, "tools");
  assert.deepEqual(
    decision.excluded.map(({ backend: name, excluded }) => [name, excluded?.requirement]),
    [
      ["a", "tools"],
      ["b", "context"],
    ],
  );
});

test("fault: a chat went to a backend that only embeds", async () => {
  const scene = await world(
    config(
      [backend("embedder", { capabilities: new Set(["embeddings"]) }), backend("chatty")],
      [model("both", ["embedder", "chatty"]), model("embed", ["embedder"], { requires: new Set(["embeddings"]) })],
    ),
  );
  assert.deepEqual(chosen(scene.now(request("both"))), ["chatty"]);
  const denied = scene.now(request("embed")).result;
  assert.ok(denied.case === "deny" && denied.value.reason === "NO_CAPABLE_BACKEND");
  assert.match(denied.value.detail, /embedder: chat \(only embeds\)/);
  assert.equal(denied.value.param, "model");
  assert.deepEqual(chosen(scene.now(request("embed", { operation: Operation.EMBEDDINGS }))), ["embedder"]);
});

test("fault: a request for several answers was held against its cost limit as if it asked for one", async () => {
  const scene = await world(config([backend("a")], [model("chat", ["a"])]), book({ a: { input: 1, output: 2 } }));
  // 500 tokens in at $1 and 100 out at $2 a million: 700,000 nano-USD.
  const limited = { maxOutputTokens: 100, maxCostNanoUsd: 700_000n };
  assert.deepEqual(chosen(scene.now(request("chat", { ...limited, choices: 1 }))), ["a"]);
  assert.deepEqual(chosen(scene.now(request("chat", { ...limited, choices: 2 }))), ["[NO_CAPABLE_BACKEND]"]);
  const { result } = scene.now(request("chat", { ...limited, maxCostNanoUsd: 900_000n, choices: 2 }));
  assert.ok(result.case === "allow");
  assert.equal(result.value.candidates[0]!.costNanoUsd, 900_000n);
});

test("closing a session releases everything it held", async () => {
  const scene = await world(config([backend("a", { concurrency: { mode: "fixed", min: 1, max: 2 } })], [model("chat", ["a"])]));
  scene.now(request("chat", { requestClass: 2 }));
  scene.now(request("chat", { requestClass: 2 }));
  const waiting = scene.session.decide(request("chat", { requestClass: 2 })).decision;
  assert.ok(waiting instanceof Promise);
  scene.session.close();
  assert.deepEqual(chosen(await waiting), ["[CANCELED]"]);
  const other = scene.host.openSession("ingress-2");
  const decision = other.decide(request("chat")).decision;
  assert.ok(!(decision instanceof Promise));
  assert.deepEqual(chosen(decision), ["a"]);
});

test("a request waits while its only backend is full and goes when room comes free", async () => {
  const scene = await world(config([backend("a", { concurrency: { mode: "fixed", min: 1, max: 1 } })], [model("chat", ["a"])]));
  const first = request("chat");
  scene.now(first);
  const waiting = scene.session.decide(request("chat")).decision;
  assert.ok(waiting instanceof Promise);
  await scene.clock.advanceAsync(40);
  scene.session.report(report(first.decisionId, "a", STARTED));
  scene.session.report(report(first.decisionId, "a", { case: "ended", value: ended() }));
  const decision = await waiting;
  assert.deepEqual(chosen(decision), ["a"]);
  assert.equal(decision.queueMs, 40);
});

test("fault: a request refused for a full queue was recorded without model, class, or who had no room", async () => {
  const { classes } = config([], []);
  const full = { ...classes, standard: { ...classes.standard, queueMax: 1, maxWaitMs: 1_000 } };
  const scene = await world(
    config(
      [
        backend("a", { concurrency: { mode: "fixed", min: 1, max: 1 } }),
        backend("b", { concurrency: { mode: "fixed", min: 1, max: 1 } }),
        backend("blind", { contextTokens: 100 }),
      ],
      [model("chat", ["a", "b", "blind"])],
      { classes: full },
    ),
  );
  scene.now(request("chat"));
  scene.now(request("chat"));
  const waits = scene.session.decide(request("chat")).decision;
  const refused = scene.now(request("chat"));
  await scene.clock.advanceAsync(1_100);
  for (const decision of [refused, await waits]) {
    assert.equal(decision.model, "chat");
    assert.equal(decision.requestClass, RequestClass.STANDARD);
    assert.ok(decision.result.case === "deny" && decision.result.value.reason === "QUEUE_FULL");
    const record = await recordOf(scene, decision.decisionId);
    assert.deepEqual(
      record?.decision?.excluded.map(({ backend: name, excluded }) => `${name} ${excluded?.requirement}`),
      ["a room", "b room", "blind context"],
    );
    assert.match(
      decision.result.value.detail,
      /a: room \(1 in flight of 1, and standard requests get 90 % of it\); b: room .*; blind: context/,
    );
  }
});

test("fault: with two backends half open a request that failed as the trial of one was not tried at the other", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]));
  for (let count = 0; count < 40; count++) serve(scene, request("chat"), () => failed("UPSTREAM_UNAVAILABLE"));
  await scene.clock.advanceAsync(60_000);
  const asked = request("chat");
  const { decision, name } = serve(scene, asked, () => failed("UPSTREAM_UNAVAILABLE"));
  assert.equal(decision.maxAttempts, 2);
  const other = name === "a" ? "b" : "a";
  const record = await recordOf(scene, asked.decisionId);
  assert.deepEqual(
    record?.decision?.excluded.map((each) => [each.backend, each.excluded?.detail]),
    [[other, "breaker half open, its trial is left to another request"]],
  );
  const again = scene.now({ ...request("chat"), exclude: [name] });
  assert.deepEqual([chosen(again), again.maxAttempts], [[other], 1]);
});

test("fault: after a reload the breakers that were there kept their old thresholds", async () => {
  const parts = [[backend("a"), backend("b")], [model("chat", ["a", "b"])]] as const;
  const { resilience } = config(...parts);
  const scene = await world(config(...parts));
  const strict = { ...resilience, breaker: { ...resilience.breaker, consecutive: 1 } };
  scene.config.swap(config(...parts, { resilience: strict, configVersion: "two" }));
  const { name } = serve(scene, request("chat"), () => failed("UPSTREAM_UNAVAILABLE"));
  assert.deepEqual(chosen(scene.now(request("chat"))), [name === "a" ? "b" : "a"]);
});

test("a fallback names every model with usable marks, at once and after every change, at most four a second", async () => {
  const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"], { aliases: ["default"] })]));
  const usable: boolean[] = [];
  scene.session.onFallback((fallback) => {
    const chat = fallback.models.find((each) => each.model === "chat")!;
    assert.deepEqual(chat.aliases, ["default"]);
    usable.push(chat.candidates.find((candidate) => candidate.backend === "a")!.usable);
  });
  assert.deepEqual(usable, [true]);
  await scene.drains("a");
  await scene.drains();
  await scene.drains("a");
  await scene.clock.advanceAsync(250);
  assert.deepEqual(usable, [true, false]);
});

test("fault: without an engine a backend whose price nobody knows was used though prices.on_unknown is reject", async () => {
  for (const [onUnknown, expected] of [
    ["reject", false],
    ["allow_unpriced", true],
  ] as const) {
    const prices = { ...book({ a: { input: 1, output: 2 } }), onUnknown };
    const scene = await world(config([backend("a"), backend("b")], [model("chat", ["a", "b"])]), prices);
    const usable = new Map<string, boolean>();
    scene.session.onFallback(({ models }) => models[0]!.candidates.forEach((each) => usable.set(each.backend, each.usable)));
    assert.deepEqual([usable.get("a"), usable.get("b")], [true, expected], onUnknown);
  }
});

test("a decision's record is found by decision, request and response id, with every candidate's terms", async () => {
  const scene = await world(
    config([backend("a"), backend("b")], [model("chat", ["a", "b"])]),
    book({ a: { input: 1, output: 2 }, b: { input: 10, output: 20 } }),
  );
  await scene.drains("b");
  const asked = request("chat");
  serve(scene, asked, () => ended({ responseId: "chatcmpl-7" }));
  for (const id of [asked.decisionId, asked.requestId, "chatcmpl-7"]) {
    const record = await scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "id", value: id } });
    assert.ok(record?.decision?.result.case === "allow");
    const [candidate] = record.decision.result.value.candidates;
    assert.equal(candidate!.costNanoUsd, 900_000n, "500 in at $1 and 200 out at $2 a million");
    assert.ok(candidate!.terms["ttft"]! > 0);
    assert.equal(record.decision.excluded[0]!.excluded?.requirement, "drain");
  }
  const gone = await scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "id", value: "nobody" } });
  assert.equal(gone, undefined);
});

test("a LoRA adapter goes where an engine says it is loaded, while that costs less than loading it", async () => {
  const engines = ["a", "b"].map((name) => backend(name, { provider: "vllm", model: "sql-adapter" }));
  const scene = await world(config(engines, [model("sql", ["a", "b"])]));
  await scene.health({ backend: "a", loadedModels: ["base"] }, { backend: "b", loadedModels: ["base", "sql-adapter"] });
  const decide = (): Decision => scene.now(request("sql"));
  for (let count = 0; count < 8; count++) assert.equal(chosen(decide())[0], "b");
  const record = await scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "last", value: true } });
  assert.ok(record?.decision?.result.case === "allow");
  const swaps = record.decision.result.value.candidates.map(({ backend: name, terms }) => [name, terms["swap"]]);
  assert.deepEqual(swaps, [
    ["b", 0],
    ["a", 5_000],
  ]);
});

test("a dry run reserves nothing and keeps no record", async () => {
  const scene = await world(config([backend("a", { concurrency: { mode: "fixed", min: 1, max: 1 } })], [model("chat", ["a"])]));
  const asked = request("chat");
  for (let count = 0; count < 5; count++) {
    const record = await scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "dryRun", value: asked } });
    assert.deepEqual(chosen(record!.decision!), ["a"]);
  }
  assert.equal(
    await scene.host.explain({ $typeName: "signalbox.policy.v1.ExplainRequest", subject: { case: "last", value: true } }),
    undefined,
  );
  assert.deepEqual(chosen(scene.now(asked)), ["a"]);
});

test("a new configuration is swapped whole, and one that does not compile leaves the old one", async () => {
  const scene = await world(config([backend("a")], [model("chat", ["a"])]));
  scene.config.swap(config([backend("a"), backend("b")], [model("chat", ["b"])], { configVersion: "two" }));
  const decision = scene.now(request("chat"));
  assert.deepEqual(chosen(decision), ["b"]);
  assert.equal(decision.configVersion, "two");
  const bad = { name: "bad", when: "tags.region ==", require: new Map(), exclude: [], class: undefined };
  scene.config.swap(config([backend("a")], [model("chat", ["a"])], { rules: [bad] }));
  assert.equal(scene.now(request("chat")).configVersion, "two");
});

test("draining tells its listeners once and waits for what is held", async () => {
  const scene = await world(config([backend("a")], [model("chat", ["a"])]));
  const asked = request("chat");
  scene.now(asked);
  let told = 0;
  scene.host.onDraining(() => told++);
  let drained = false;
  const draining = scene.host.module.drain(60_000).then(() => (drained = true));
  await scene.clock.advanceAsync(1_000);
  assert.equal(told, 1);
  assert.equal(drained, false);
  scene.session.report(report(asked.decisionId, "a", DONE));
  await scene.clock.advanceAsync(100);
  await draining;
  await scene.host.module.stop();
  assert.equal(scene.session.connected, false);
});
