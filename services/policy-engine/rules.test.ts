import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePriceBook } from "#libs/money/index.ts";
import { backend, book, config, model, request } from "./fixture.ts";
import { bindingsOf, checkRule, compileRules } from "./rules.ts";
import { compileSnapshot } from "./snapshot.ts";

function applies(when: string, parts: Parameters<typeof request>[1] = {}): boolean {
  const [rule] = compileRules([{ name: "r", when, require: new Map(), exclude: [], class: undefined }], []);
  return rule!.applies(bindingsOf(request("m", parts), "m", "standard"));
}

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

test("hostile expressions end within their bounds", () => {
  const tags = Object.fromEntries(Array.from({ length: 16 }, (_, index) => [`t${index}`, "a".repeat(256)]));
  assert.ok(!applies('tags.all(a, tags.all(b, a + b == "x"))', { tags }));
  assert.ok(!applies('tags.t0.matches("^(a+)+$b")', { tags }));
});

test("names resolve: a model over an alias, an alias over provider/model, that over a backend", () => {
  const snapshot = compileSnapshot(
    config(
      [backend("x", { model: "gpt" }), backend("y", { model: "gpt" }), backend("chat")],
      [model("chat", ["x"], { aliases: ["openai/gpt"] })],
    ),
    undefined,
    compilePriceBook(book({})),
  );
  assert.equal(snapshot.models.get("openai/gpt")!.name, "chat");
  assert.equal(snapshot.models.get("chat")!.implied, false);
  assert.deepEqual(Array.from(snapshot.models.get("y")!.candidates), [1]);
  assert.equal(snapshot.models.get("openai/chat-model")!.name, "openai/chat-model");
});
