import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Target } from "./targets.ts";

/** What `ai` with `@ai-sdk/openai` must be able to do through the gateway, unmodified. */
export function aiSdkContract(label: string, target: () => Target): void {
  const model = (): ReturnType<ReturnType<typeof createOpenAI>["chat"]> =>
    createOpenAI({ baseURL: `${target().api}/v1`, apiKey: "any" }).chat(target().model);
  const weather = tool({
    description: "Weather of a city",
    inputSchema: jsonSchema<{ city: string }>({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
    execute: ({ city }) => Promise.resolve({ city, celsius: 21 }),
  });

  test(`${label}: generateText gives text and usage`, async () => {
    const { text, finishReason, usage } = await generateText({ model: model(), prompt: "hello", maxRetries: 0 });
    assert.ok(text.length > 0);
    assert.equal(finishReason, "stop");
    assert.ok(usage.outputTokens! > 0);
  });

  test(`${label}: streamText gives text piece by piece and usage at the end`, async () => {
    const result = streamText({ model: model(), prompt: "hello", maxRetries: 0 });
    let pieces = 0;
    for await (const piece of result.textStream) pieces += piece.length > 0 ? 1 : 0;
    assert.ok(pieces > 3);
    assert.equal(await result.finishReason, "stop");
    assert.ok((await result.usage).outputTokens! > 0);
  });

  for (const way of ["plain", "streamed"] as const) {
    test(`${label}: a tool is called, run and answered (${way})`, async () => {
      const options = {
        model: model(),
        prompt: "[sim tools=single] weather in Bern?",
        tools: { get_weather: weather },
        stopWhen: stepCountIs(1),
        maxRetries: 0,
      };
      const calls = way === "plain" ? (await generateText(options)).toolCalls : await streamText(options).toolCalls;
      assert.equal(calls.length, 1);
      assert.equal(calls[0]!.toolName, "get_weather");
    });
  }

  test(`${label}: generateObject gives an object of the schema`, async () => {
    const schema = jsonSchema<{ name: string; age: number }>({
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer" } },
      required: ["name", "age"],
      additionalProperties: false,
    });
    const { object } = await generateObject({ model: model(), schema, prompt: "a person", maxRetries: 0 });
    assert.equal(typeof object.name, "string");
    assert.ok(Number.isInteger(object.age));
  });

  test(`${label}: an aborted stream cancels the upstream call`, async () => {
    const controller = new AbortController();
    const result = streamText({
      model: model(),
      prompt: "[sim tokens=100000] on and on",
      abortSignal: controller.signal,
      maxRetries: 0,
      onError: () => {},
    });
    try {
      for await (const piece of result.textStream) if (piece.length > 0) controller.abort();
    } catch {
      // Some versions throw the abort, some end the stream.
    }
    await target().left();
  });
}
