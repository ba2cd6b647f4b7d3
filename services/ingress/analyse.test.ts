import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { scanTopLevel } from "#libs/json-bytes/index.ts";
import { type Analysis, analyse } from "./analyse.ts";
import { type Caller, OPEN_CALLER } from "./auth.ts";
import { Catalog } from "./catalog.ts";
import { readChat } from "./openai/chat.ts";
import { parseBody } from "./openai/parse.ts";
import { hashText, prefixHashes } from "./prefix.ts";
import { NO_OPTIONS, type RequestOptions } from "./request-options.ts";
import { chatBody, testConfig } from "./testing.ts";
import { CONTENT_CLASS, TokenFactors } from "./tokens.ts";

const catalog = new Catalog(testConfig());

function analysed(
  parts: Record<string, unknown>,
  more: { options?: Partial<RequestOptions>; caller?: Partial<Caller>; factors?: TokenFactors } = {},
): Analysis {
  const body = Buffer.from(JSON.stringify(chatBody(parts)));
  return analyse({
    chat: readChat(parseBody(body)),
    body,
    fields: scanTopLevel(body),
    options: { ...NO_OPTIONS, ...more.options },
    caller: { ...OPEN_CALLER, ...more.caller },
    catalog,
    factors: more.factors ?? new TokenFactors(),
    decisionId: "d",
    requestId: "r",
    explain: false,
  });
}

const user = (content: unknown): Record<string, unknown> => ({ messages: [{ role: "user", content }] });

test("needs name hard requirements and no hints", () => {
  const part = (type: string, value: unknown): Record<string, unknown> => user([{ type, [type]: value }]);
  const cases: [Record<string, unknown>, number][] = [
    [{}, 0],
    [{ tools: [{ type: "function", function: { name: "f" } }] }, 1],
    [{ functions: [{ name: "f" }] }, 1],
    [part("image_url", { url: "data:image/png;base64,A" }), 2],
    [{ response_format: { type: "json_schema", json_schema: { name: "x" } } }, 4],
    [part("input_audio", { data: "A", format: "wav" }), 8],
    [{ modalities: ["text", "audio"] }, 8],
    [part("file", { file_id: "f" }), 16],
    [{ logprobs: true }, 32],
    [{ n: 2 }, 64],
    [
      { temperature: 0, top_p: 1, seed: 1, parallel_tool_calls: true, response_format: { type: "json_object" }, reasoning_effort: "low" },
      0,
    ],
  ];
  for (const [parts, needs] of cases) assert.equal(analysed(parts).decide.needs, needs, JSON.stringify(parts));
});

test("prompt tokens follow bytes, class of content, images and tool schemas", () => {
  const english = analysed(user("The quick brown fox jumps over the lazy dog. ".repeat(40)));
  assert.equal(english.size.contentClass, CONTENT_CLASS.latin);
  assert.equal(english.decide.inputTokens, Math.ceil(1_800 / 4) + 4);
  const chinese = analysed(user("敏捷的棕色狐狸跳过了懒狗。".repeat(40)));
  assert.equal(chinese.size.contentClass, CONTENT_CLASS.cjk);
  assert.equal(chinese.decide.inputTokens, Math.ceil(chinese.size.bytes / 2) + 4);
  const code = analysed(user("if (a[i] > b[j]) { swap(a, b); } ".repeat(40)));
  assert.equal(code.size.contentClass, CONTENT_CLASS.code);
  const image = { type: "image_url", image_url: { url: `data:image/png;base64,${"A".repeat(50_000)}` } };
  assert.equal(analysed(user([image])).decide.inputTokens, 4 + 765);
  const tool = { type: "function", function: { name: "f", parameters: { d: "x".repeat(3_200) } } };
  assert.ok(analysed({ tools: [tool] }).decide.inputTokens > 1_000);
});

test("the estimate learns what providers count, within bounds", () => {
  const factors = new TokenFactors();
  const text = user("word ".repeat(1_000));
  const naive = analysed(text).decide.inputTokens;
  for (let round = 0; round < 400; round++) factors.learn("chat", CONTENT_CLASS.latin, naive, 0, naive * 1.5);
  const learned = analysed({ ...text, model: "gpt-4o-mini" }, { factors }).decide.inputTokens;
  assert.ok(Math.abs(learned / naive - 1.5) < 0.01);
  for (let round = 0; round < 2_000; round++) factors.learn("chat", CONTENT_CLASS.latin, naive, 0, naive * 1e9);
  assert.ok(factors.factor("chat", CONTENT_CLASS.latin) <= 4);
  assert.equal(factors.factor("other", CONTENT_CLASS.latin), 1);
});

test("class: header over service_tier over nothing, and never above the key's", () => {
  assert.equal(analysed({}).decide.requestClass, RequestClass.UNSPECIFIED);
  assert.equal(analysed({ service_tier: "flex" }).decide.requestClass, RequestClass.BATCH);
  assert.equal(analysed({ service_tier: "scale" }).decide.requestClass, RequestClass.UNSPECIFIED);
  const fast = analysed({ service_tier: "fast" }).decide;
  assert.deepEqual([fast.requestClass, fast.ttftTargetMs], [RequestClass.INTERACTIVE, 500]);
  const header = { options: { requestClass: RequestClass.BATCH, ttftMs: 50 } };
  assert.equal(analysed({ service_tier: "priority" }, header).decide.requestClass, RequestClass.BATCH);
  assert.equal(analysed({ service_tier: "priority" }, header).decide.ttftTargetMs, 50);
  const low = { caller: { maxClass: RequestClass.BATCH } };
  assert.equal(analysed({}, low).decide.requestClass, RequestClass.BATCH);
  assert.equal(analysed({ service_tier: "priority" }, low).decide.requestClass, RequestClass.BATCH);
  assert.equal(analysed({}, { caller: { maxClass: RequestClass.STANDARD } }).decide.requestClass, RequestClass.UNSPECIFIED);
});

test("the unit is stable, separates tenants and does not show the user", () => {
  const unit = (name: string, tenant = "a"): string => analysed({ user: name }, { caller: { tenant } }).decide.unit;
  assert.equal(unit("u1"), unit("u1"));
  assert.notEqual(unit("u1"), unit("u2"));
  assert.notEqual(unit("u1"), unit("u1", "b"));
  assert.equal(analysed({ safety_identifier: "u1" }, { caller: { tenant: "a" } }).decide.unit, unit("u1"));
  assert.equal(unit(""), "");
});

test("template and conversation hashes follow the system prompt and the first user message", () => {
  const of = (system: string, first: string, more: string): string[] => {
    const { decide } = analysed({
      messages: [
        { role: "system", content: system },
        { role: "user", content: first },
        { role: "user", content: more },
      ],
    });
    return [decide.templateHash, decide.conversation];
  };
  assert.deepEqual(of("s", "a", "b"), of("s", "a", "c"));
  assert.notEqual(of("s", "a", "b")[0], of("t", "a", "b")[0]);
  assert.notEqual(of("s", "a", "b")[1], of("s", "x", "b")[1]);
  assert.match(hashText("s"), /^[0-9a-f]{16}$/);
});

function hashesOf(text: string, seed = "t\u0000m", inputTokens = text.length / 4): string[] {
  const bytes = Buffer.from(text);
  const hashes = Buffer.from(prefixHashes(seed, undefined, { bytes, from: 0, to: bytes.length }, inputTokens));
  return Array.from({ length: hashes.length / 8 }, (_, index) => hashes.toString("hex", index * 8, index * 8 + 8));
}

test("prefix hashes agree exactly as far as prompts do, and are bounded", () => {
  const base = "x".repeat(3_000);
  const first = hashesOf(`${base}AAAA${"y".repeat(3_000)}`);
  const second = hashesOf(`${base}BBBB${"y".repeat(3_000)}`);
  assert.equal(first.length, 16 + 1);
  const common = first.findIndex((hash, index) => hash !== second[index]);
  assert.equal(common, Math.floor(3_000 / 256));
  for (let index = common; index < first.length; index++) assert.notEqual(first[index], second[index]);
  assert.equal(hashesOf("short").length, 0);
  assert.equal(hashesOf("z".repeat(1_000_000)).length, 16 + 60 + 112);
  assert.notDeepEqual(hashesOf(base), hashesOf(base, "other\u0000m"));
  assert.equal(new Set(hashesOf("q".repeat(65_536))).size, 76);
});

test("prompts that part behind the first 64 KiB are told apart in the block where they part, and pictures have no blocks there", () => {
  const base = Array.from({ length: 12_000 }, (_, index) => `word ${index} `).join("");
  const first = hashesOf(base);
  const second = hashesOf(`${base.slice(0, 90_000)}and something else ${base.slice(90_000)}`);
  const common = first.findIndex((hash, index) => hash !== second[index]);
  assert.equal(common, 76 + Math.floor((90_000 - 65_536) / 4_096));
  for (let index = common; index < first.length; index++) assert.notEqual(first[index], second[index]);
  assert.equal(hashesOf(base, undefined, 1_000).length, 76);
});

test("a growing conversation keeps its prefix hashes", () => {
  const turns = Array.from({ length: 12 }, (_, index) => ({
    role: index % 2 ? "assistant" : "user",
    content: `turn ${index} `.repeat(30),
  }));
  const early = Buffer.from(analysed({ messages: turns.slice(0, 8) }).decide.prefixHashes);
  const later = Buffer.from(analysed({ messages: turns }).decide.prefixHashes);
  const shared = Math.floor((early.length - 8) / 8) * 8;
  assert.ok(shared >= 40);
  assert.deepEqual(later.subarray(0, shared), early.subarray(0, shared));
});
