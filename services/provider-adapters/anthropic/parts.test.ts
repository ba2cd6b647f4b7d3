import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { structuredSchema } from "./json-schema.ts";
import { generationOf, traitsOf } from "./model-traits.ts";
import { legalToolId, restoreToolId } from "./tool-ids.ts";
import { Warnings } from "./warnings.ts";

for (const [model, generation] of [
  ["claude-sonnet-4-5-20250929", 4.5],
  ["claude-opus-4-20250514", 4],
  ["claude-3-5-haiku-20241022", 3.5],
  ["claude-3-haiku-20240307", 3],
  ["claude-3-7-sonnet-latest", 3.7],
  ["claude-opus-5", 5],
  ["claude-fable-5", 5],
  ["us.anthropic.claude-opus-4-6-v1:0", 4.6],
  ["anthropic/claude-opus-4.7", 4.7],
  ["sim-claude", undefined],
] as const) {
  test(`${model} is of generation ${generation ?? "unknown"}`, () => assert.equal(generationOf(model), generation));
}

test("an unknown model is taken for a new one only under the new version", () => {
  assert.equal(traitsOf("house-model", "2023-06-01").sampling, true);
  assert.equal(traitsOf("house-model", "2026-10-21").sampling, false);
  assert.equal(traitsOf("claude-3-haiku", "2026-10-21").sampling, false);
});

test("any id becomes legal, comes back, and meets no other", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.string({ minLength: 1 }), (one, two) => {
      assert.match(legalToolId(one), /^[a-zA-Z0-9_-]+$/);
      assert.equal(restoreToolId(legalToolId(one)), one.toWellFormed());
      if (one.toWellFormed() !== two.toWellFormed()) assert.notEqual(legalToolId(one), legalToolId(two));
    }),
  );
  assert.equal(legalToolId("call_1"), "call_1");
  assert.notEqual(legalToolId("sbx-Yg"), "sbx-Yg");
});

test("schemas are closed at every level and keep what is supported", () => {
  const schema = {
    type: "object",
    properties: {
      list: { type: "array", minItems: 2, items: { type: "object", properties: { s: { type: "string", maxLength: 3, enum: ["a"] } } } },
    },
    $defs: { d: { type: "object" } },
  };
  assert.deepEqual(structuredSchema(schema), {
    type: "object",
    properties: {
      list: {
        type: "array",
        description: "{minItems: 2}",
        items: {
          type: "object",
          properties: { s: { type: "string", enum: ["a"], description: "{maxLength: 3}" } },
          additionalProperties: false,
        },
      },
    },
    $defs: { d: { type: "object", additionalProperties: false } },
    additionalProperties: false,
  });
});

test("a schema nested without end does not exhaust the stack", () => {
  let schema: Record<string, unknown> = { type: "string" };
  for (let depth = 0; depth < 5000; depth++) schema = { type: "object", properties: { a: schema } };
  assert.equal(structuredSchema(schema)["additionalProperties"], false);
});

test("warnings are bounded and said once", () => {
  const warnings = new Warnings();
  for (let index = 0; index < 1000; index++) warnings.add(`name${index >> 1}`, "x".repeat(1000));
  assert.equal(warnings.list().length, 16);
  assert.ok(warnings.list().every((warning) => warning.length <= 160));
});
