import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "./api.ts";
import { encode, refusal, TOOLS } from "./request.testkit.ts";

for (const [asked, expected] of [
  ["auto", { type: "auto" }],
  ["none", { type: "none" }],
  ["required", { type: "any" }],
  [
    { type: "function", function: { name: "f" } },
    { type: "tool", name: "f" },
  ],
  [{ type: "allowed_tools", allowed_tools: { mode: "required", tools: [{ type: "function", function: { name: "f" } }] } }, { type: "any" }],
] as const) {
  test(`tool_choice ${JSON.stringify(asked).slice(0, 40)} becomes ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(encode({ tools: TOOLS, tool_choice: asked })["tool_choice"], expected);
  });
}

test("an allowed list leaves the other tools out", () => {
  const tools = [...TOOLS, { type: "function", function: { name: "g" } }];
  const choice = { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [{ type: "function", function: { name: "g" } }] } };
  assert.deepEqual(encode({ tools, tool_choice: choice })["tools"], [{ name: "g", input_schema: { type: "object", properties: {} } }]);
});

test("parallel_tool_calls false forbids parallel use whatever the choice", () => {
  const serial = { tools: TOOLS, parallel_tool_calls: false };
  assert.deepEqual(encode(serial)["tool_choice"], { type: "auto", disable_parallel_tool_use: true });
  assert.deepEqual(encode({ ...serial, tool_choice: "required" })["tool_choice"], { type: "any", disable_parallel_tool_use: true });
  assert.deepEqual(encode({ ...serial, tool_choice: "none" })["tool_choice"], { type: "none" });
});

test("strict tools reach the models that know them", () => {
  const tools = [{ type: "function", function: { name: "f", strict: true } }];
  assert.equal((encode({ tools })["tools"] as JsonObject[])[0]!["strict"], true);
  assert.equal((encode({ tools }, { model: "claude-3-5-haiku" })["tools"] as JsonObject[])[0]!["strict"], undefined);
});

test("custom tools are refused", () => {
  assert.equal(refusal({ tools: [{ type: "custom", custom: { name: "c" } }] }).param, "tools[0].type");
});
