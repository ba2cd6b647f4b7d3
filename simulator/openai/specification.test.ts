import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Ajv, type ValidateFunction } from "ajv";
import { parse } from "yaml";
import { stringOf } from "../http/json.ts";
import { type Bed, startBed } from "../testing/bed.ts";

const path = process.env["SIGNALBOX_SPEC"] ?? new URL("../../../shared/spec/openai-openapi.yaml", import.meta.url).pathname;

/** Draft 2020 has no `nullable`: it becomes a type or a branch that allows null. */
function plain(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(plain);
  if (typeof schema !== "object" || schema === null) return schema;
  const { nullable, discriminator: _discriminator, ...rest } = schema as Record<string, unknown>;
  const walked = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, plain(value)]));
  if (nullable !== true) return walked;
  const { enum: values } = walked as { enum?: unknown[] };
  return { anyOf: [values ? { ...walked, enum: values.filter((value) => value !== null) } : walked, { type: "null" }] };
}

function load(): Ajv | undefined {
  try {
    const text = readFileSync(path, "utf8").split("\ncomponents:\n")[1]!;
    const { schemas } = parse(`components:\n${text}`, { merge: true, schema: "core" }).components as { schemas: unknown };
    const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
    ajv.addSchema({ $id: "spec", components: { schemas: plain(schemas) } } as object);
    return ajv;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return undefined;
  }
}

const ajv = load();
const skip = ajv
  ? false
  : `OpenAI's specification is absent: put openapi.yaml of github.com/openai/openai-openapi at ${path} or set SIGNALBOX_SPEC`;

function check(name: string, value: unknown): void {
  const validate: ValidateFunction = ajv!.getSchema(`spec#/components/schemas/${name}`)!;
  assert.ok(validate, name);
  assert.ok(validate(value), `${name}: ${ajv!.errorsText(validate.errors)}\n${JSON.stringify(value)}`);
}

const weather = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
};
const refresh = { type: "function", function: { name: "refresh", parameters: { type: "object", properties: {} } } };
const person = {
  type: "json_schema",
  json_schema: {
    name: "person",
    strict: true,
    schema: {
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer", minimum: 18 } },
      required: ["name", "age"],
      additionalProperties: false,
    },
  },
};

const FEATURES: Readonly<Record<string, Record<string, unknown>>> = {
  "plain text": {},
  "several choices": { n: 3 },
  logprobs: { logprobs: true, top_logprobs: 3 },
  "a tool call": { tools: [weather] },
  "parallel tool calls": { tools: [weather, refresh], messages: [{ role: "user", content: "do both" }] },
  "a call without arguments": { tools: [refresh], tool_choice: "required" },
  "a JSON schema": { response_format: person },
  "a JSON object": { response_format: { type: "json_object" }, messages: [{ role: "user", content: "answer in json" }] },
  "a token limit": { max_completion_tokens: 4 },
  "a stop string": { stop: ["e"] },
  reasoning: { reasoning_effort: "high" },
  "a refusal": { messages: [{ role: "user", content: "[sim refusal]" }] },
  "an image": {
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "what is it" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
        ],
      },
    ],
  },
};

let bed: Bed;
before(async () => {
  bed = await startBed();
});
after(() => bed.simulator.stop());

for (const [feature, fields] of Object.entries(FEATURES)) {
  test(`a whole answer with ${feature} is valid by OpenAI's specification`, { skip }, async () => {
    const answer = await bed.chat("openai", fields);
    assert.equal(answer.status, 200, answer.text);
    check("CreateChatCompletionResponse", answer.json());
  });
  test(`every chunk of a stream with ${feature} is valid by OpenAI's specification`, { skip }, async () => {
    const answer = await bed.chat("openai", { ...fields, stream: true, stream_options: { include_usage: true } });
    assert.equal(answer.status, 200, answer.text);
    assert.ok(answer.text.endsWith("data: [DONE]\n\n"));
    const events = answer.events();
    for (const event of events) check("CreateChatCompletionStreamResponse", event);
    assert.deepEqual(events.at(-1)!["choices"], []);
  });
}

test("the check itself refuses a chunk without a finish_reason and an answer without its refusal", { skip }, async () => {
  const chunk = { id: "x", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta: {} }] };
  assert.throws(() => check("CreateChatCompletionStreamResponse", chunk), /finish_reason/);
  const message = { role: "assistant", content: "hi" };
  const answer = {
    id: "x",
    object: "chat.completion",
    created: 1,
    model: "m",
    choices: [{ index: 0, message, logprobs: null, finish_reason: "stop" }],
  };
  assert.throws(() => check("CreateChatCompletionResponse", answer), /refusal/);
});

test("embeddings, legacy completions, models and errors are valid by OpenAI's specification", { skip }, async () => {
  check(
    "CreateEmbeddingResponse",
    (await bed.post("openai", "/v1/embeddings", { model: "text-embedding-3-small", input: ["a", "b"] })).json(),
  );
  check("CreateCompletionResponse", (await bed.post("openai", "/v1/completions", { model: "gpt-5-mini", prompt: "once" })).json());
  check("ListModelsResponse", (await bed.get("openai", "/v1/models")).json());
  check("Model", (await bed.get("openai", "/v1/models/gpt-5-mini")).json());
  const stream = await bed.post("openai", "/v1/completions", { model: "gpt-5-mini", prompt: "once", stream: true });
  assert.equal(stream.events().filter((event) => stringOf(event["object"]) !== "text_completion").length, 0);
  for (const kind of ["400", "401", "403", "404", "429-rate", "429-quota", "429-slow", "500", "503", "context_length"]) {
    check("ErrorResponse", (await bed.chat("openai", {}, { "x-sim-fault": kind })).json());
  }
  check("ErrorResponse", (await bed.chat("openai", { temperature: "hot" })).json());
});
