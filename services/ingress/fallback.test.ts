import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Decision, DecideRequestSchema, PolicyFallbackSchema, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createConfigSource, defaultBackend } from "#libs/config/index.ts";
import type { RuleConfig } from "#libs/config/model.ts";
import { decideByFallback } from "./fallback.ts";
import { FallbackRules } from "./fallback-rules.ts";
import { testConfig } from "./testing.ts";

const RULES: readonly RuleConfig[] = [
  { name: "eu-only", when: 'tags.region == "eu"', require: new Map([["residency", "eu"]]), exclude: [], class: undefined },
  { name: "long", when: "request.input_tokens > 5k", require: new Map(), exclude: ["home"], class: "batch" },
];

function backends(homeResidency = "eu"): ReturnType<typeof testConfig>["backends"] {
  const home = defaultBackend({ name: "home", provider: "vllm", model: "m", labels: new Map([["residency", homeResidency]]) });
  const away = defaultBackend({ name: "away", provider: "openai", model: "m", labels: new Map([["residency", "us"]]) });
  return new Map([home, away].map((each) => [each.name, each]));
}

const candidates = ["away", "stranger", "home"].map((backend) => ({ backend, context: 100_000, usable: true }));
const fallback = create(PolicyFallbackSchema, { models: [{ model: "chat", candidates, requestClass: RequestClass.STANDARD }] });

function decide(rules: FallbackRules, parts: MessageInitShape<typeof DecideRequestSchema>): Decision {
  return decideByFallback(create(DecideRequestSchema, { model: "chat", inputTokens: 100, ...parts }), fallback, rules);
}

function chosen({ result }: Decision): readonly string[] {
  return result.case === "allow" ? result.value.candidates.map(({ backend }) => backend) : [];
}

test("fault: without an engine a rule did not hold, and data of one region went to another", () => {
  const rules = new FallbackRules(createConfigSource(testConfig({ backends: backends(), rules: RULES })));
  const decision = decide(rules, { tags: { region: "eu" }, explain: true });
  assert.deepEqual(chosen(decision), ["home"], "nor to a backend nothing is known of here");
  assert.deepEqual(
    decision.excluded.map(({ backend, excluded }) => `${backend} ${excluded?.requirement}: ${excluded?.detail}`),
    ["away residency: rule eu-only requires other labels", "stranger residency: rule eu-only requires other labels"],
  );
  assert.deepEqual(chosen(decide(rules, {})), ["away", "stranger", "home"], "where no rule applies all may");
});

test("a rule's exclusions and its class hold without an engine, and it is said when they leave nobody", () => {
  const source = createConfigSource(testConfig({ backends: backends(), rules: RULES }));
  const rules = new FallbackRules(source);
  const long = decide(rules, { inputTokens: 6_000 });
  assert.deepEqual(chosen(long), ["away", "stranger"]);
  assert.equal(long.requestClass, RequestClass.BATCH);
  source.swap(testConfig({ backends: backends("us"), rules: RULES }));
  const { result } = decide(rules, { tags: { region: "eu" } });
  assert.ok(result.case === "deny");
  assert.equal(result.value.reason, "NO_CAPABLE_BACKEND");
  assert.match(result.value.detail, /home: rule eu-only requires other labels/);
});
