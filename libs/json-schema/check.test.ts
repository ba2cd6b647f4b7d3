import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { isSame, keepsToSchema } from "./index.ts";

const NAMES = ["a", "b", "c"];
const leaf = fc.oneof(fc.constantFrom(null, true, false, "", "x", "yy", "😀", 0, 1, -2, 2.5), fc.integer({ min: -3, max: 5 }));
const anyValue = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    leaf,
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...NAMES), tie("value"), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value;

const TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"];
const anySchema = fc.letrec<{ schema: unknown }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3 },
    fc.boolean(),
    fc.record({ type: fc.constantFrom(...TYPES) }),
    fc.record({ type: fc.uniqueArray(fc.constantFrom(...TYPES), { minLength: 1, maxLength: 3 }) }),
    fc.record({ enum: fc.array(anyValue, { minLength: 1, maxLength: 3 }) }),
    fc.record({ const: anyValue }),
    fc.record({ $ref: fc.constantFrom("#/$defs/one", "#/$defs/two") }),
    fc.record({ minimum: fc.integer({ min: -2, max: 2 }), exclusiveMaximum: fc.integer({ min: 0, max: 4 }) }, { requiredKeys: [] }),
    fc.record({ minLength: fc.nat(2), maxLength: fc.nat(3) }, { requiredKeys: [] }),
    fc.record({ anyOf: fc.array(tie("schema"), { minLength: 1, maxLength: 3 }) }),
    fc.record({ oneOf: fc.array(tie("schema"), { minLength: 1, maxLength: 3 }) }),
    fc.record({ allOf: fc.array(tie("schema"), { minLength: 1, maxLength: 2 }), not: tie("schema") }, { requiredKeys: ["allOf"] }),
    fc.tuple(tie("schema"), tie("schema"), tie("schema")).map(([condition, yes, no]) => branching(condition, yes, no)),
    fc.record(
      {
        items: tie("schema"),
        prefixItems: fc.array(tie("schema"), { minLength: 1, maxLength: 2 }),
        minItems: fc.nat(2),
        maxItems: fc.nat(3),
      },
      { requiredKeys: [] },
    ),
    fc.record(
      {
        properties: fc.dictionary(fc.constantFrom(...NAMES), tie("schema"), { noNullPrototype: true }),
        required: fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: 2 }),
        additionalProperties: tie("schema"),
        maxProperties: fc.integer({ min: 1, max: 3 }),
      },
      { requiredKeys: [] },
    ),
  ),
})).schema;

function branching(condition: unknown, yes: unknown, no: unknown): unknown {
  return JSON.parse(`{"if":${JSON.stringify(condition)},"then":${JSON.stringify(yes)},"else":${JSON.stringify(no)}}`);
}

test("random values keep to random schemas exactly where Ajv says so", () => {
  const ajv = new Ajv2020({ strict: false, logger: false });
  let kept = 0;
  fc.assert(
    fc.property(anySchema, anySchema, anySchema, fc.array(anyValue, { minLength: 5, maxLength: 5 }), (schema, one, two, values) => {
      const whole = { allOf: [schema], $defs: { one: plain(one), two: plain(two) } };
      const validate = ajv.compile(whole);
      for (const value of values) {
        assert.equal(keepsToSchema(value, whole), validate(value), JSON.stringify({ whole, value }));
        if (validate(value)) kept++;
      }
    }),
    { numRuns: 300, seed: 5 },
  );
  assert.ok(kept > 150, `${kept} values were valid`);
});

/** A definition that refers to none, so that no two refer to each other for ever. */
function plain(schema: unknown): unknown {
  return JSON.stringify(schema).includes("$ref") ? { type: "string" } : schema;
}

test("a schema that refers to itself ends", () => {
  const list = { type: "object", properties: { next: { $ref: "#" }, value: { type: "integer" } }, additionalProperties: false };
  assert.equal(keepsToSchema({ value: 1, next: { value: 2 } }, list), true);
  assert.equal(keepsToSchema({ value: 1, next: { value: "2" } }, list), false);
  assert.equal(keepsToSchema(1, { $ref: "#" }), undefined, "for ever");
});

test("what cannot be said within bounds is not said", () => {
  assert.equal(keepsToSchema({}, { $ref: "https://example.com/schema" }), undefined);
  assert.equal(keepsToSchema({}, { $ref: "#/$defs/none" }), undefined);
  assert.equal(keepsToSchema({}, "object"), undefined);
  let deep: unknown = 1;
  for (let level = 0; level < 100; level++) deep = [deep];
  assert.equal(keepsToSchema(deep, { $defs: { l: { items: { $ref: "#/$defs/l" } } }, $ref: "#/$defs/l" }), undefined);
  const wide = Array.from({ length: 60_000 }, () => 1);
  assert.equal(keepsToSchema(wide, { items: { type: "integer", allOf: [{ minimum: 0 }] } }), undefined);
  assert.equal(keepsToSchema("aaaa", { pattern: "^(a+)+$" }), true, "patterns are not looked at");
});

test("values are the same whatever the order of their members", () => {
  assert.equal(isSame({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 }), true);
  assert.equal(isSame({ a: 1 }, { a: 1, b: undefined }), false);
  assert.equal(isSame([1, 2], [2, 1]), false);
  assert.equal(isSame({ a: 1 }, [1]), false);
});
