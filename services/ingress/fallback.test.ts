import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { PriceBookSchema } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { type Decision, DecideRequestSchema, PolicyFallbackSchema, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { type ConfigSource, createConfigSource, defaultBackend } from "#libs/config/index.ts";
import type { RuleConfig } from "#libs/config/model.ts";
import { blankLine, compilePriceBook } from "#libs/money/index.ts";
import { decideByFallback } from "./fallback.ts";
import { FallbackConstraints } from "./fallback-constraints.ts";
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

/** `home` is rented, `away` costs $1 and $10 per million tokens, `stranger` has no price. */
const PRICES = compilePriceBook(
  create(PriceBookSchema, {
    version: "prices-1",
    lines: [
      { ...blankLine("home"), perHourNano: 2_000_000_000n },
      { ...blankLine("away"), inputPico: 1_000_000n, outputPico: 10_000_000n },
    ],
    onUnknown: "allow_unpriced",
  }),
);

function constraints(source: ConfigSource): FallbackConstraints {
  return new FallbackConstraints(source, { index: PRICES }, new FakeClock());
}

function decide(rules: FallbackConstraints, parts: MessageInitShape<typeof DecideRequestSchema>): Decision {
  return decideByFallback(create(DecideRequestSchema, { model: "chat", inputTokens: 100, ...parts }), fallback, rules);
}

function chosen({ result }: Decision): readonly string[] {
  return result.case === "allow" ? result.value.candidates.map(({ backend }) => backend) : [];
}

test("fault: without an engine a rule did not hold, and data of one region went to another", () => {
  const rules = constraints(createConfigSource(testConfig({ backends: backends(), rules: RULES })));
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
  const rules = constraints(source);
  const long = decide(rules, { inputTokens: 6_000 });
  assert.deepEqual(chosen(long), ["away", "stranger"]);
  assert.equal(long.requestClass, RequestClass.BATCH);
  source.swap(testConfig({ backends: backends("us"), rules: RULES }));
  const { result } = decide(rules, { tags: { region: "eu" } });
  assert.ok(result.case === "deny");
  assert.equal(result.value.reason, "NO_CAPABLE_BACKEND");
  assert.match(result.value.detail, /home: residency \(rule eu-only requires other labels\)/);
});

test("what a caller pays at most holds without an engine, by the price of its longest answer", () => {
  const limits = constraints(createConfigSource(testConfig({ backends: backends() })));
  // 100 tokens in and 800 out: 8,100,000 nano-USD on `away`.
  assert.deepEqual(chosen(decide(limits, { maxCostNanoUsd: 8_100_000n })), ["away", "stranger", "home"]);
  const tight = decide(limits, { maxCostNanoUsd: 8_099_999n, explain: true });
  assert.deepEqual(chosen(tight), ["stranger", "home"], "rent is no price of a request");
  assert.deepEqual(
    tight.excluded.map(({ backend, excluded }) => [backend, excluded?.requirement]),
    [["away", "cost"]],
  );
  assert.deepEqual(chosen(decide(limits, { maxCostNanoUsd: 8_099_999n, maxOutputTokens: 700 })), ["away", "stranger", "home"]);
  assert.deepEqual(chosen(decide(limits, { maxCostNanoUsd: 8_099_999n, maxOutputTokens: 700, choices: 2 })), ["stranger", "home"]);
});

test("fault: a refusal without an engine had other words than one with, and named no parameter", () => {
  const rules = constraints(createConfigSource(testConfig({ backends: backends() })));
  const { result } = decide(rules, { inputTokens: 10_000_000, maxOutputTokens: 10 });
  assert.ok(result.case === "deny");
  assert.match(
    result.value.detail,
    /^No backend of model 'chat' can serve this request: away: context \(about 10000000 prompt tokens \(10 % to spare\) and 10 for the answer do not fit its \d+\); /,
  );
  assert.equal(result.value.param, "messages");
});
