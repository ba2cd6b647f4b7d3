import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { parse } from "yaml";
import { isObject } from "./api.ts";
import { anthropicCodec } from "./index.ts";
import { contextOf, decode, recordedBodies, recordedFolder, recordedStreams, specFile, sse } from "./testing.ts";

const folder = recordedFolder();
const file = specFile();
const skip =
  folder === undefined || file === undefined
    ? "needs recorded answers (SIGNALBOX_FIXTURES) and OpenAI's openapi.yaml (SIGNALBOX_SPEC)"
    : false;

/** The specification's schemas, its `nullable` written as JSON Schema 2020 says it. */
function schemasOf(path: string): Record<string, unknown> {
  const spec = parse(readFileSync(path, "utf8"), { maxAliasCount: -1 }) as { components: { schemas: Record<string, unknown> } };
  return nullables(spec.components.schemas) as Record<string, unknown>;
}

function nullables(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(nullables);
  if (!isObject(value)) return value;
  const { nullable, ...rest } = value;
  const result = Object.fromEntries(Object.entries(rest).map(([key, member]) => [key, nullables(member)]));
  return nullable === true ? { anyOf: [result, { type: "null" }] } : result;
}

function validator(name: string, schemas: Record<string, unknown>): ValidateFunction {
  const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true, logger: false });
  ajv.addSchema({ $id: "https://spec.invalid/", components: { schemas } });
  return ajv.compile({ $ref: `https://spec.invalid/#/components/schemas/${name}` });
}

test("every chunk and body made from a recording is valid by OpenAI's specification", { skip }, () => {
  const schemas = schemasOf(file!);
  const isChunk = validator("CreateChatCompletionStreamResponse", schemas);
  const isCompletion = validator("CreateChatCompletionResponse", schemas);
  assert.equal(isChunk({ id: "x" }), false);
  assert.equal(isCompletion({ id: "x" }), false);
  let chunks = 0;
  for (const { name, events } of recordedStreams(folder!)) {
    const { chunks: made, ends } = decode([sse(events)]);
    const usage = ends[0]!.usageEvent;
    const all = usage === undefined ? made : [...made, JSON.parse(Buffer.from(usage).toString("utf8").slice(6)) as unknown];
    for (const chunk of all) assert.ok(isChunk(chunk), `${name}: ${JSON.stringify(isChunk.errors)} in ${JSON.stringify(chunk)}`);
    chunks += all.length;
  }
  assert.ok(chunks > 1000, `${chunks} chunks`);
  for (const { name, body } of recordedBodies(folder!)) {
    const made = JSON.parse(Buffer.from(anthropicCodec.decodeBody(contextOf(), body).body).toString("utf8")) as unknown;
    assert.ok(isCompletion(made), `${name}: ${JSON.stringify(isCompletion.errors)}`);
  }
});
