import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { checkSum } from "../engine/text.ts";
import { stringOf } from "../http/json.ts";
import { type Bed, startBed, testProfiles, textOf } from "../testing/bed.ts";

const weather = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } },
};
const refresh = { type: "function", function: { name: "refresh", parameters: { type: "object", properties: {} } } };

let bed: Bed;
before(async () => {
  bed = await startBed();
});
after(() => bed.simulator.stop());

test("the same request gets the same text, whole or streamed, in every dialect, and its checksum holds", async () => {
  const texts = new Set<string>();
  for (const name of ["openai", "vllm", "sglang", "llamacpp", "ollama", "tgi"]) {
    texts.add(stringOf((await bed.chat(name, {})).json()["choices"]?.[0]?.["message"]?.["content"]));
    texts.add(textOf((await bed.chat(name, { stream: true })).events()));
  }
  texts.add(stringOf((await bed.message({})).json()["content"]?.[0]?.["text"]));
  assert.equal(texts.size, 1, [...texts].join("\n"));
  assert.equal(checkSum([...texts][0]!), "ok");
});

test("a seed and another prompt change the text, a lost or doubled word breaks the checksum", async () => {
  const text = async (fields: object): Promise<string> =>
    stringOf((await bed.chat("openai", { ...fields })).json()["choices"]?.[0]?.["message"]?.["content"]);
  const plain = await text({});
  assert.notEqual(plain, await text({ seed: 1 }));
  assert.notEqual(plain, await text({ messages: [{ role: "user", content: "Tell me about trains" }] }));
  assert.equal(checkSum(plain.replace(/ \w+/, "")), "bad");
  assert.equal(checkSum(plain.replace(/( \w+)/, "$1$1")), "bad");
  assert.equal(checkSum(plain.slice(0, -3)), "absent");
});

test("hello is answered with a friendly sentence", async () => {
  const answer = await bed.chat("openai", { messages: [{ role: "user", content: "hello" }] });
  assert.match(stringOf(answer.json()["choices"]?.[0]?.["message"]?.["content"]), /^Hello! .* help you today/);
});

test("the token limit ends an answer with length, a stop string with stop and without the string", async () => {
  const short = (await bed.chat("openai", { max_completion_tokens: 5 })).json();
  assert.equal(short["choices"]?.[0]?.["finish_reason"], "length");
  assert.equal(short["usage"]?.["completion_tokens"], 5);
  const full = stringOf((await bed.chat("openai", {})).json()["choices"]?.[0]?.["message"]?.["content"]);
  const stop = full.split(" ")[3]!;
  const stopped = (await bed.chat("vllm", { stop })).json();
  assert.equal(stopped["choices"]?.[0]?.["finish_reason"], "stop");
  assert.equal(stopped["choices"]?.[0]?.["stop_reason"], stop);
  assert.equal(stopped["choices"]?.[0]?.["message"]?.["content"], full.slice(0, full.indexOf(stop)));
});

test("tools are called: one, several at once, one without arguments, none when the choice is none or a result came", async () => {
  const calls = async (fields: object): Promise<unknown[]> =>
    ((await bed.chat("openai", { tools: [weather, refresh], ...fields })).json()["choices"]?.[0]?.["message"]?.["tool_calls"] ??
      []) as unknown[];
  assert.equal((await calls({})).length, 1);
  assert.equal((await calls({ messages: [{ role: "user", content: "call both" }] })).length, 2);
  assert.equal((await calls({ messages: [{ role: "user", content: "call both" }], parallel_tool_calls: false })).length, 1);
  assert.equal((await calls({ tool_choice: "none" })).length, 0);
  const [named] = (await calls({ tool_choice: { type: "function", function: { name: "refresh" } } })) as {
    function: { name: string; arguments: string };
  }[];
  assert.deepEqual(named!.function, { name: "refresh", arguments: "{}" });
  const called = {
    role: "assistant",
    content: null,
    tool_calls: [{ id: "call_1", type: "function", function: { name: "weather", arguments: "{}" } }],
  };
  const answered = [{ role: "user", content: "weather?" }, called, { role: "tool", tool_call_id: "call_1", content: "rain" }];
  assert.equal((await calls({ messages: answered })).length, 0);
});

test("streamed calls carry id and name first, then pieces of arguments that join to JSON, with a dense index", async () => {
  const answer = await bed.chat("openai", {
    tools: [weather, refresh],
    messages: [{ role: "user", content: "call both in Paris" }],
    stream: true,
  });
  const joined: { name: string; text: string }[] = [];
  for (const event of answer.events()) {
    for (const call of (event["choices"]?.[0]?.["delta"]?.["tool_calls"] ?? []) as {
      index: number;
      id?: string;
      function: { name?: string; arguments: string };
    }[]) {
      if (call.id !== undefined) joined[call.index] = { name: call.function.name!, text: "" };
      joined[call.index]!.text += call.function.arguments;
    }
  }
  assert.deepEqual(
    joined.map(({ name, text }) => [name, JSON.parse(text)]),
    [
      ["weather", { city: "Paris" }],
      ["refresh", {}],
    ],
  );
});

test("a partial answer is continued to the same text under continue_final_message", async () => {
  const messages = [{ role: "user", content: "Tell me about rivers" }];
  const full = stringOf((await bed.chat("vllm", { messages })).json()["choices"]?.[0]?.["message"]?.["content"]);
  const start = full.slice(0, 25);
  const rest = await bed.chat("vllm", {
    messages: [...messages, { role: "assistant", content: start }],
    continue_final_message: true,
    add_generation_prompt: false,
  });
  assert.equal(start + stringOf(rest.json()["choices"]?.[0]?.["message"]?.["content"]), full);
});

test("usage comes on its own chunk when asked for, not otherwise, and vLLM implies it by stream_options", async () => {
  assert.ok(!(await bed.chat("openai", { stream: true })).text.includes('"usage"'));
  const events = (await bed.chat("openai", { stream: true, stream_options: { include_usage: true } })).events();
  assert.ok(events.slice(0, -1).every((event) => event["usage"] === null));
  assert.ok(events.at(-1)!["usage"]?.["total_tokens"]);
  assert.ok((await bed.chat("vllm", { stream: true, stream_options: {} })).events().at(-1)!["usage"]);
});

test("obfuscation pads deltas until it is switched off", async () => {
  assert.ok((await bed.chat("openai", { stream: true })).text.includes("obfuscation"));
  assert.ok(!(await bed.chat("openai", { stream: true, stream_options: { include_obfuscation: false } })).text.includes("obfuscation"));
});

test("embeddings are unit vectors of the asked size, equal in both encodings", async () => {
  const ask = (fields: object) =>
    bed.post("openai", "/v1/embeddings", {
      model: "text-embedding-3-small",
      input: ["river", [1, 2]].slice(0, 1),
      dimensions: 8,
      ...fields,
    });
  const floats = (await ask({})).json()["data"]?.[0]?.["embedding"] as unknown as number[];
  const bytes = Buffer.from(stringOf((await ask({ encoding_format: "base64" })).json()["data"]?.[0]?.["embedding"]), "base64");
  assert.equal(floats.length, 8);
  assert.ok(Math.abs(floats.reduce((sum, value) => sum + value * value, 0) - 1) < 1e-6);
  assert.deepEqual(
    Array.from({ length: 8 }, (_, index) => bytes.readFloatLE(index * 4)),
    floats,
  );
});

const WRONG: readonly (readonly [string, Record<string, unknown>, string | null, string | null])[] = [
  ["a temperature in words", { temperature: "hot" }, "temperature", "invalid_type"],
  ["a temperature too high", { temperature: 3 }, "temperature", "decimal_above_max_value"],
  ["a broken n", { n: 1.5 }, "n", "invalid_type"],
  ["no messages", { messages: [] }, "messages", "empty_array"],
  ["an unknown role", { messages: [{ role: "robot", content: "x" }] }, "messages[0].role", "invalid_value"],
  ["an unknown field", { temprature: 1 }, null, null],
  ["an unknown effort", { reasoning_effort: "heroic" }, "reasoning_effort", "invalid_value"],
  ["stream options without a stream", { stream_options: { include_usage: true } }, "stream_options", null],
  ["five stop strings", { stop: ["a", "b", "c", "d", "e"] }, "stop", "array_above_max_length"],
  ["a stray tool result", { messages: [{ role: "tool", tool_call_id: "x", content: "y" }] }, "messages.[0].role", null],
  ["json_object without the word", { response_format: { type: "json_object" } }, "messages", null],
  ["a tool without a name", { tools: [{ type: "function", function: {} }] }, "tools[0].function.name", "missing_required_parameter"],
  ["logprob counts without logprobs", { top_logprobs: 2 }, "top_logprobs", null],
];

for (const [what, fields, param, code] of WRONG) {
  test(`OpenAI refuses ${what} with 400`, async () => {
    const answer = await bed.chat("openai", fields);
    assert.equal(answer.status, 400, answer.text);
    assert.deepEqual([answer.json()["error"]?.["param"], answer.json()["error"]?.["code"]], [param, code]);
  });
}

test("errors have the shape of their server: nested with a number, flat, or a plain string", async () => {
  const bad = { temperature: "hot" };
  assert.equal((await bed.chat("vllm", bad)).json()["error"]?.["code"], 400);
  assert.equal((await bed.chat("sglang", bad)).json()["object"], "error");
  assert.equal((await bed.chat("llamacpp", bad)).json()["error"]?.["type"], "invalid_request_error");
  assert.equal(typeof (await bed.chat("tgi", bad)).json()["error"], "string");
  assert.equal((await bed.post("vllm", "/v1/chat/completions", { model: "other", messages: [] })).status, 400);
  assert.equal((await bed.chat("vllm", { model: "other" })).status, 404);
  assert.equal((await bed.post("openai", "/v1/chat/completions", "{")).status, 400);
  assert.equal((await bed.post("openai", "/v1/nothing", {})).status, 404);
});

test("a prompt beyond the window is refused in each server's words", async () => {
  const profiles = testProfiles().map((profile) => ({ ...profile, contextTokens: 50 }));
  const small = await startBed(profiles);
  const messages = [{ role: "user", content: "x".repeat(400) }];
  assert.equal((await small.chat("openai", { messages })).json()["error"]?.["code"], "context_length_exceeded");
  assert.match((await small.chat("vllm", { messages })).text, /maximum context length is 50 tokens/);
  assert.equal((await small.chat("llamacpp", { messages })).json()["error"]?.["n_ctx"], 50);
  assert.match((await small.message({ messages, max_tokens: 5 })).text, /prompt is too long: 104 tokens > 50 maximum/);
  assert.equal((await small.chat("ollama", { messages })).status, 200);
  await small.simulator.stop();
});

test("a model that refuses sampling parameters does so as OpenAI's reasoning models do", async () => {
  const strict = await startBed(
    testProfiles()
      .slice(0, 1)
      .map((profile) => ({ ...profile, refusesSampling: true })),
  );
  assert.equal((await strict.chat("openai", { max_tokens: 5 })).json()["error"]?.["code"], "unsupported_parameter");
  assert.equal((await strict.chat("openai", { temperature: 0.2 })).json()["error"]?.["code"], "unsupported_value");
  assert.equal((await strict.chat("openai", { temperature: 1, max_completion_tokens: 5 })).status, 200);
  await strict.simulator.stop();
});

test("a key is insisted on where the profile has one", async () => {
  const locked = await startBed(testProfiles().map((profile) => ({ ...profile, key: "sk-right" })));
  assert.equal((await locked.chat("openai", {})).status, 401);
  assert.equal((await locked.chat("openai", {}, { authorization: "Bearer sk-wrong" })).json()["error"]?.["code"], "invalid_api_key");
  assert.equal((await locked.chat("openai", {}, { authorization: "Bearer sk-right" })).status, 200);
  assert.equal((await locked.message({})).headers["x-should-retry"], "false");
  assert.equal((await locked.message({}, { "x-api-key": "sk-right" })).status, 200);
  await locked.simulator.stop();
});
