import assert from "node:assert/strict";
import { test } from "node:test";
import { scanTopLevel } from "#libs/json-bytes/index.ts";
import { changeRequest } from "./change-request.ts";

function changed(body: string, change: Record<string, unknown>): string {
  const bytes = Buffer.from(body);
  const result = changeRequest(bytes, scanTopLevel(bytes)!, Buffer.from(JSON.stringify(change)));
  assert.deepEqual(result.fields, [...scanTopLevel(result.body)!], "the extents are those of the new body");
  assert.equal(bytes.toString(), body, "the client's own bytes stay as they are");
  return Buffer.from(result.body).toString();
}

const BODY =
  '{ "model":"chat", "temperature":1.0e0, "messages":[ {"role":"user","content":"hällo \\"you\\""} ,{"role":"assistant","content":null}] }';

test("a parameter is set, another is removed, and every other byte stays", () => {
  assert.equal(changed(BODY, { temperature: 0.2, top_p: null, seed: 7 }), BODY.replace("1.0e0", "0.2").replace("] }", '],"seed":7 }'));
  assert.deepEqual(JSON.parse(changed('{"top_p":1,"messages":[],"model":"m"}', { top_p: null })), { messages: [], model: "m" });
});

test("an output limit stands in place of the other name of the same limit", () => {
  const both = '{"max_completion_tokens":500,"messages":[]}';
  assert.deepEqual(JSON.parse(changed(both, { max_tokens: 20 })), { messages: [], max_tokens: 20 });
  assert.deepEqual(JSON.parse(changed('{"max_tokens":5,"messages":[]}', { max_completion_tokens: 20 })), {
    messages: [],
    max_completion_tokens: 20,
  });
});

test("a system prompt is put in front where there is none", () => {
  const text = changed(BODY, { system: 'Be "brief".\nAlways.' });
  const { messages } = JSON.parse(text) as { messages: unknown[] };
  assert.deepEqual(messages, [
    { role: "system", content: 'Be "brief".\nAlways.' },
    { role: "user", content: 'hällo "you"' },
    { role: "assistant", content: null },
  ]);
  assert.ok(text.includes('{"role":"user","content":"hällo \\"you\\""}'), "the user's message is the same bytes");
});

test("a system prompt stands in place of all leading ones, under the first one's role", () => {
  const body =
    '{"messages":[{"content":"a","role":"developer"},{"role":"system","content":"b"},{"role":"user","content":"c"},{"role":"system","content":"d"}]}';
  const { messages } = JSON.parse(changed(body, { system: "z" })) as { messages: unknown[] };
  assert.deepEqual(messages, [
    { role: "developer", content: "z" },
    { role: "user", content: "c" },
    { role: "system", content: "d" },
  ]);
});

test("an addition goes behind the caller's own system prompt", () => {
  const messagesOf = (body: string, change: Record<string, unknown>): unknown =>
    (JSON.parse(changed(body, change)) as { messages: unknown }).messages;
  const user = '{"role":"user","content":"c"}';
  assert.deepEqual(messagesOf(`{"messages":[{"role":"system","content":"a\\\\"},${user}]}`, { system_append: 'x"' }), [
    { role: "system", content: 'a\\\n\nx"' },
    { role: "user", content: "c" },
  ]);
  const parts = '{"role":"system","content":[{"type":"text","text":"a"}]}';
  assert.deepEqual(messagesOf(`{"messages":[${parts},${user}]}`, { system_append: "x" }), [
    JSON.parse(parts),
    { role: "system", content: "x" },
    { role: "user", content: "c" },
  ]);
  assert.deepEqual(messagesOf(`{"messages":[${user}]}`, { system: "s", system_append: "x" }), [
    { role: "system", content: "s\n\nx" },
    { role: "user", content: "c" },
  ]);
});
