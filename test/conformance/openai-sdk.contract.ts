import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { APIError, APIUserAbortError } from "openai";
import type { Target } from "./targets.ts";

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
} as const;

const REFRESH = {
  type: "function",
  function: { name: "refresh", description: "Refresh", parameters: { type: "object", properties: {} } },
} as const;

const PERSON = {
  type: "json_schema",
  json_schema: {
    name: "person",
    strict: true,
    schema: {
      type: "object",
      properties: { name: { type: "string" }, age: { type: "integer" } },
      required: ["name", "age"],
      additionalProperties: false,
    },
  },
} as const;

/** A red pixel. */
const PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

/** What the official `openai` client must be able to do through the gateway, unmodified. */
export function openaiSdkContract(label: string, target: () => Target): void {
  const client = (): OpenAI => new OpenAI({ baseURL: `${target().api}/v1`, apiKey: "any", maxRetries: 0 });
  const model = (): string => target().model;
  const hello = [{ role: "user" as const, content: "hello" }];

  test(`${label}: a plain completion has text, a finish reason and usage`, async () => {
    const { data, response } = await client().chat.completions.create({ model: model(), messages: hello }).withResponse();
    assert.ok(data.choices[0]!.message.content!.length > 0);
    assert.equal(data.choices[0]!.finish_reason, "stop");
    assert.equal(data.usage!.total_tokens, data.usage!.prompt_tokens + data.usage!.completion_tokens);
    assert.equal(response.headers.get("x-signalbox-backend"), target().backend);
    assert.match(response.headers.get("x-signalbox-cost-usd")!, /^\d+\.\d+$/);
    assert.ok(response.headers.get("x-request-id"));
  });

  test(`${label}: a stream gives the same text as the plain call and ends with a finish reason`, async () => {
    const plain = await client().chat.completions.create({ model: model(), messages: hello, seed: 7 });
    const stream = await client().chat.completions.create({ model: model(), messages: hello, seed: 7, stream: true });
    let text = "";
    let finish: string | null = null;
    const ids = new Set<string>();
    for await (const chunk of stream) {
      ids.add(chunk.id);
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      assert.equal(chunk.usage ?? null, null, "usage was not asked for");
    }
    assert.equal(text, plain.choices[0]!.message.content);
    assert.equal(finish, "stop");
    assert.equal(ids.size, 1);
  });

  test(`${label}: usage comes last in a stream that asks for it, with what it cost`, async () => {
    const stream = await client().chat.completions.create({
      model: model(),
      messages: hello,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const last = chunks.at(-1)!;
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage!.completion_tokens > 0);
    assert.match((last as unknown as { signalbox: { cost_usd: string } }).signalbox.cost_usd, /^\d+\.\d+$/);
    assert.ok(chunks.slice(0, -1).every((chunk) => (chunk.usage ?? null) === null));
  });

  test(`${label}: the SDK's stream helper assembles a final completion`, async () => {
    const runner = client().chat.completions.stream({ model: model(), messages: hello });
    const final = await runner.finalChatCompletion();
    assert.ok(final.choices[0]!.message.content!.length > 0);
  });

  for (const stream of [false, true]) {
    const way = stream ? "streamed" : "plain";
    const callsOf = async (
      content: string,
      tools: (typeof WEATHER | typeof REFRESH)[],
    ): Promise<OpenAI.ChatCompletionMessageFunctionToolCall[]> => {
      const parameters = { model: model(), messages: [{ role: "user" as const, content }], tools };
      if (!stream) {
        const answer = await client().chat.completions.create(parameters);
        assert.equal(answer.choices[0]!.finish_reason, "tool_calls");
        return answer.choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
      }
      const final = await client().chat.completions.stream(parameters).finalChatCompletion();
      assert.equal(final.choices[0]!.finish_reason, "tool_calls");
      return final.choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
    };

    test(`${label}: a single tool is called with arguments (${way})`, async () => {
      const [call, ...more] = await callsOf("[sim tools=single] weather in Bern?", [WEATHER]);
      assert.equal(more.length, 0);
      assert.equal(call!.function.name, "get_weather");
      assert.equal(typeof (JSON.parse(call!.function.arguments) as { city: string }).city, "string");
    });

    test(`${label}: several tools are called in parallel (${way})`, async () => {
      const calls = await callsOf("[sim tools=parallel] both please", [WEATHER, REFRESH]);
      assert.deepEqual(calls.map((call) => call.function.name).toSorted(), ["get_weather", "refresh"]);
      assert.equal(new Set(calls.map((call) => call.id)).size, 2);
      for (const call of calls) JSON.parse(call.function.arguments);
    });

    test(`${label}: a tool without arguments gets an empty object (${way})`, async () => {
      const [call] = await callsOf("[sim tools=single] refresh", [REFRESH]);
      assert.deepEqual(JSON.parse(call!.function.arguments), {});
    });

    test(`${label}: an answer follows its JSON schema (${way})`, async () => {
      const parameters = { model: model(), messages: hello, response_format: PERSON };
      const text = stream
        ? (await client().chat.completions.stream(parameters).finalChatCompletion()).choices[0]!.message.content!
        : (await client().chat.completions.create(parameters)).choices[0]!.message.content!;
      const value = JSON.parse(text) as { name: unknown; age: unknown };
      assert.equal(typeof value.name, "string");
      assert.ok(Number.isInteger(value.age));
    });
  }

  test(`${label}: a tool's result goes back and an answer comes`, async () => {
    const question = { role: "user" as const, content: "[sim tools=single] weather in Bern?" };
    const first = await client().chat.completions.create({ model: model(), messages: [question], tools: [WEATHER] });
    const message = first.choices[0]!.message;
    const result = { role: "tool" as const, tool_call_id: message.tool_calls![0]!.id, content: '{"celsius":21}' };
    const second = await client().chat.completions.create({
      model: model(),
      messages: [question, message, result],
      tools: [WEATHER],
      tool_choice: "none",
    });
    assert.equal(second.choices[0]!.finish_reason, "stop");
    assert.ok(second.choices[0]!.message.content!.length > 0);
  });

  test(`${label}: an image is taken`, async () => {
    const answer = await client().chat.completions.create({
      model: model(),
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "what is this?" },
            { type: "image_url", image_url: { url: PIXEL } },
          ],
        },
      ],
    });
    assert.ok(answer.choices[0]!.message.content!.length > 0);
  });

  test(`${label}: stop sequences and token limits are obeyed`, async () => {
    const long = [{ role: "user" as const, content: "[sim tokens=200] tell me a story" }];
    const whole = (await client().chat.completions.create({ model: model(), messages: long, seed: 3 })).choices[0]!.message.content!;
    const word = whole.split(" ").find((part, index) => index > 5 && /^[a-z]{4,}$/.test(part))!;
    const stopped = await client().chat.completions.create({ model: model(), messages: long, seed: 3, stop: [word] });
    assert.equal(stopped.choices[0]!.finish_reason, "stop");
    assert.ok(!stopped.choices[0]!.message.content!.includes(word));
    const cut = await client().chat.completions.create({ model: model(), messages: long, max_completion_tokens: 5 });
    assert.equal(cut.choices[0]!.finish_reason, "length");
    assert.equal(cut.usage!.completion_tokens, 5);
  });

  test(`${label}: logprobs and n are given where the upstream has them, and refused by name where it has not`, async () => {
    const call = async (extra: { logprobs?: boolean; n?: number }): Promise<OpenAI.ChatCompletion | APIError> => {
      try {
        return await client().chat.completions.create({ model: model(), messages: hello, ...extra });
      } catch (failure) {
        assert.ok(failure instanceof APIError);
        return failure;
      }
    };
    const several = await call({ n: 3 });
    const probable = await call({ logprobs: true });
    if (target().dialect === "openai") {
      assert.equal((several as OpenAI.ChatCompletion).choices.length, 3);
      assert.ok((probable as OpenAI.ChatCompletion).choices[0]!.logprobs!.content!.length > 0);
      return;
    }
    for (const [failure, param] of [
      [several, "n"],
      [probable, "logprobs"],
    ] as const) {
      assert.ok(failure instanceof APIError);
      assert.equal(failure.status, 400);
      assert.equal(failure.code, "no_capable_backend");
      assert.equal(failure.param, param);
    }
  });

  test(`${label}: an aborted stream cancels the upstream call`, async () => {
    const stream = await client().chat.completions.create({
      model: model(),
      messages: [{ role: "user", content: "[sim tokens=100000] on and on" }],
      stream: true,
    });
    await assert.rejects(async () => {
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content) stream.controller.abort();
      throw new APIUserAbortError();
    }, APIUserAbortError);
    await target().left();
  });

  test(`${label}: errors carry the status, type and code that the SDK branches on`, async () => {
    const cases: { readonly run: () => Promise<unknown>; readonly status: number; readonly code: string }[] = [
      { run: () => client().chat.completions.create({ model: "no-such-model", messages: hello }), status: 404, code: "model_not_found" },
      { run: () => client().chat.completions.create({ model: model(), messages: "hello" as never }), status: 400, code: "invalid_value" },
      {
        run: () => client().chat.completions.create({ model: model(), messages: hello, temperature: 9 }),
        status: 400,
        code: "invalid_value",
      },
      { run: () => client().get("/nothing/here"), status: 404, code: "unknown_url" },
      { run: () => client().get("/chat/completions"), status: 405, code: "method_not_allowed" },
    ];
    for (const { run, status, code } of cases) {
      await assert.rejects(run, (failure: unknown) => {
        assert.ok(failure instanceof APIError, String(failure));
        assert.equal(failure.status, status);
        assert.equal(failure.code, code);
        assert.ok(failure.type && failure.requestID);
        return true;
      });
    }
  });

  test(`${label}: models are listed and found`, async () => {
    const list = await client().models.list();
    assert.ok(list.data.some(({ id }) => id === "chat"));
    assert.equal((await client().models.retrieve("chat")).id, "chat");
  });
}
