import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { DecideRequestSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { RuleConfig } from "#libs/config/model.ts";
import { checkRule, compileRules, RULE_EXCLUDED, RULE_FINE, RULE_LABEL, ruleFor } from "./rules.ts";

type RequestParts = MessageInitShape<typeof DecideRequestSchema>;

function rule(name: string, when: string, parts: Partial<RuleConfig> = {}): RuleConfig {
  return { name, when, require: new Map(), exclude: [], class: undefined, ...parts };
}

function applies(when: string, parts: RequestParts = {}): boolean {
  const request = create(DecideRequestSchema, { model: "m", tenant: "default", inputTokens: 500, stream: true, ...parts });
  return ruleFor(compileRules([rule("r", when)], []), request, "m", "standard") !== undefined;
}

test("the first rule that applies counts, and says of each backend whether a label is missing or it is excluded", () => {
  const rules = compileRules(
    [
      rule("never", "false", { exclude: ["home", "away", "bare"] }),
      rule("home-only", 'tags.region == "eu"', { require: new Map([["residency", "eu"]]), exclude: ["bare"] }),
      rule("later", "true", { exclude: ["home"] }),
    ],
    [
      { name: "home", labels: new Map([["residency", "eu"]]) },
      { name: "away", labels: new Map([["residency", "us"]]) },
      { name: "bare", labels: new Map() },
    ],
  );
  const found = ruleFor(rules, create(DecideRequestSchema, { tags: { region: "eu" } }), "m", "standard");
  assert.deepEqual([found?.name, found?.requirement], ["home-only", "residency"]);
  assert.deepEqual([...found!.verdicts], [RULE_FINE, RULE_LABEL, RULE_EXCLUDED]);
});

test("expressions read tags, the request, tenant, team and key; counts may be written in k and M", () => {
  assert.ok(applies('tags.region == "eu"', { tags: { region: "eu" } }));
  assert.ok(!applies('tags.region == "eu"'), "an absent tag does not apply");
  assert.ok(applies("request.input_tokens > 100k", { inputTokens: 100_001 }));
  assert.ok(!applies("request.input_tokens > 100k", { inputTokens: 100_000 }));
  assert.ok(applies('tenant == "acme" && "tools" in request.needs && request.stream', { tenant: "acme", needs: 1 }));
  assert.ok(applies('tags.name == "100k"', { tags: { name: "100k" } }), "text in quotes stays as it is");
  assert.ok(applies('tags.team.matches("^se.*h$")', { tags: { team: "search" } }));
  assert.ok(!applies("1 + 1"), "anything but true does not apply");
});

test("expressions that are too large, too deep or unreadable are refused with a reason", () => {
  assert.match(checkRule("tags.region ==") ?? "", /./);
  assert.match(checkRule(`${"true && ".repeat(400)}true`) ?? "", /more than 300 terms/);
  assert.match(
    checkRule("request.needs.all(a, request.needs.all(b, request.needs.all(c, a == b && b == c)))") ?? "",
    /comprehensions nested/,
  );
  assert.match(checkRule("tags.a.matches(tags.b)") ?? "", /constant pattern/);
  assert.match(checkRule('tags.a.matches("(a{999}){999}")') ?? "", /too large/);
  assert.equal(checkRule('tags.region == "eu"'), undefined);
});

test("fault: a rule with a mistyped name or value was taken, and never applied", () => {
  const mistakes: [string, RegExp][] = [
    ['tenat == "acme"', /there is no "tenat", did you mean "tenant"/],
    ["request.input_tokes > 100k", /no "request.input_tokes", did you mean "request.input_tokens"/],
    ["input_tokens > 100k", /there is no "input_tokens", use tags, request/],
    ['request.tags.region == "eu"', /there is no "request.tags"/],
    ['tags.region.startswith("e")', /unbound function: startswith/],
    ['request.input_tokens > "100"', /no matching overload/],
    ["tags.level > 5", /no matching overload/],
    ["request.input_tokens", /neither true nor false/],
  ];
  for (const [when, why] of mistakes) assert.match(checkRule(when) ?? "taken", why, when);
  const fine = [
    "int(tags.level) > 5",
    'has(tags.region) && tags.region != "us"',
    'request.needs.exists(need, need == "tools") || "tools" in request.needs',
    'tags.all(name, name.startsWith("x-")) || type(tags.a) == string',
    'request.operation == "embeddings" && key != "" && team.matches("^a")',
    "true",
  ];
  for (const when of fine) assert.equal(checkRule(when), undefined, when);
});

test("hostile expressions end within their bounds", () => {
  const tags = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [`t${index}`, "a".repeat(256)]));
  assert.ok(!applies('tags.all(a, tags.all(b, a + b == "x"))', { tags }));
  assert.ok(!applies('tags.t0.matches("^(a+)+$b")', { tags }));
});
