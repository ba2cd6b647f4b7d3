import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Server } from "node:net";
import { readFileSync, existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { parse } from "yaml";
import { answerBody } from "./upstream-answers.ts";
import { portOf, startUpstream } from "./upstream.ts";

const SPEC = process.env["SIGNALBOX_SPEC"] ?? fileURLToPath(new URL("../../shared/spec/openai-openapi.yaml", import.meta.url));
const skip = existsSync(SPEC) ? false : "needs OpenAI's openapi.yaml: set SIGNALBOX_SPEC";

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

async function post(body: object): Promise<string> {
  const server = await startUpstream(0);
  servers.push(server);
  const answer = await fetch(`http://127.0.0.1:${portOf(server)}/v1/chat/completions`, { method: "POST", body: JSON.stringify(body) });
  return answer.text();
}

test("the JSON answer is 600 bytes", async () => {
  const text = await post({ model: "bench", messages: [] });
  assert.equal(text, answerBody);
  assert.equal(Buffer.byteLength(text), 600);
});

test("a stream has the chunks asked for, usage where asked for, and [DONE]", async () => {
  const events = (await post({ stream: true, max_tokens: 7, stream_options: { include_usage: true } })).split("\n\n");
  assert.deepEqual(events.slice(-2), ["data: [DONE]", ""]);
  const chunks = events
    .slice(0, -2)
    .map((event) => JSON.parse(event.slice(6)) as { choices: { delta: { content?: string } }[]; usage?: object });
  assert.equal(chunks.filter((chunk) => chunk.choices[0]?.delta.content).length, 7);
  assert.ok(chunks.at(-1)!.usage);
  assert.doesNotMatch(await post({ stream: true }), /usage/);
});

/** The schemas with OpenAPI's `nullable` in JSON Schema's words. */
function nullables(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(nullables);
  if (typeof value !== "object" || value === null) return value;
  const { nullable, ...rest } = value as Record<string, unknown>;
  const result = Object.fromEntries(Object.entries(rest).map(([key, member]) => [key, nullables(member)]));
  return nullable === true ? { anyOf: [result, { type: "null" }] } : result;
}

test("answers are valid by OpenAI's specification", { skip }, async () => {
  const spec = parse(readFileSync(SPEC, "utf8"), { maxAliasCount: -1 }) as { components: { schemas: unknown } };
  const ajv = new Ajv2020({ strict: false, validateFormats: false, logger: false });
  ajv.addSchema({ $id: "https://spec.invalid/", components: { schemas: nullables(spec.components.schemas) } });
  const isCompletion = ajv.compile({ $ref: "https://spec.invalid/#/components/schemas/CreateChatCompletionResponse" });
  const isChunk = ajv.compile({ $ref: "https://spec.invalid/#/components/schemas/CreateChatCompletionStreamResponse" });
  assert.ok(isCompletion(JSON.parse(answerBody)), JSON.stringify(isCompletion.errors));
  const stream = await post({ stream: true, max_tokens: 3, stream_options: { include_usage: true } });
  for (const event of stream.split("\n\n").slice(0, -2))
    assert.ok(isChunk(JSON.parse(event.slice(6))), `${event}: ${JSON.stringify(isChunk.errors)}`);
});
