import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { stringOf } from "../http/json.ts";
import { type Bed, eventsOf, type Loose, recording, startBed, testProfiles } from "../testing/bed.ts";

const update = { name: "updateIssueList", input_schema: { type: "object", properties: {} } };
const weather = { name: "weather", input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } };

let bed: Bed;
before(async () => {
  bed = await startBed();
});
after(() => bed.simulator.stop());

/** Event types in order without pings, repeated deltas as one: the skeleton of a stream. */
function skeleton(events: readonly Loose[]): string[] {
  const names: string[] = [];
  for (const event of events) {
    const kind = event["delta"]?.["type"] ?? event["content_block"]?.["type"];
    const name = [event["type"], kind].filter((word) => typeof word === "string").join(" ");
    if (name !== "ping" && names.at(-1) !== name) names.push(name);
  }
  return names;
}

/** Keys of an event at every level, values left out. */
function keysOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return typeof value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, keysOf(field)]));
}

function recorded(path: string): Loose[] | undefined {
  return recording(path)
    ?.split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Loose);
}

const text = recorded("anthropic/anthropic-text.chunks.txt");
const skip = text
  ? false
  : "recorded responses are absent: set SIGNALBOX_FIXTURES to a folder of vercel/ai's recordings (packages/*/src/**/__fixtures__)";

test("a text stream has the events and the fields of a recorded one", { skip }, async () => {
  const events = (await bed.message({ stream: true })).events();
  assert.deepEqual(skeleton(events), skeleton(text!));
  for (const type of [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
  ]) {
    const ours = events.find((event) => stringOf(event["type"]) === type);
    const theirs = text!.find((event) => stringOf(event["type"]) === type);
    assert.deepEqual(keysOf(ours), keysOf(theirs), type);
  }
});

test("a call without arguments streams as recorded: one empty piece of JSON", { skip }, async () => {
  const theirs = recorded("anthropic/anthropic-tool-no-args.chunks.txt")!;
  const events = (await bed.message({ stream: true, tools: [update] })).events();
  const fromTool = (all: readonly Loose[]): string[] => skeleton(all).slice(skeleton(all).indexOf("content_block_start tool_use"));
  assert.deepEqual(fromTool(events), fromTool(theirs));
  const piece = events.find((event) => event["delta"]?.["type"] !== undefined && stringOf(event["delta"]["type"]) === "input_json_delta");
  assert.equal(piece!["delta"]!["partial_json"], "");
});

test("thinking streams as recorded: thinking, its signature, then the text", { skip }, async () => {
  const theirs = recorded("anthropic/anthropic-clear-thinking.1.chunks.txt")!;
  const events = (await bed.message({ stream: true, max_tokens: 4000, thinking: { type: "enabled", budget_tokens: 1024 } })).events();
  assert.deepEqual(skeleton(events), skeleton(theirs));
});

test("a whole message has the fields of a recorded one", { skip }, async () => {
  const theirs = JSON.parse(recording("anthropic/anthropic-text.json")!) as unknown;
  const ours = (await bed.message({})).json();
  assert.deepEqual(keysOf(ours), keysOf(theirs));
});

test("every event is named as its data says, in one piece, without [DONE]", async () => {
  const { text: body } = await bed.message({ stream: true });
  for (const event of body.split("\n\n").filter(Boolean)) {
    const [name, data] = event.split("\n");
    assert.equal(name, `event: ${stringOf(eventsOf(data!)[0]!["type"])}`);
  }
  assert.ok(!body.includes("[DONE]"));
});

test("stop reasons: the limit, a stop sequence with its text, a tool, a refusal with details", async () => {
  assert.equal((await bed.message({ max_tokens: 4 })).json()["stop_reason"], "max_tokens");
  const stopped = (await bed.message({ stop_sequences: ["e"] })).json();
  assert.deepEqual([stopped["stop_reason"], stopped["stop_sequence"]], ["stop_sequence", "e"]);
  assert.equal((await bed.message({ tools: [weather] })).json()["stop_reason"], "tool_use");
  const refused = (await bed.message({ messages: [{ role: "user", content: "[sim refusal]" }] })).json();
  assert.equal(refused["stop_reason"], "refusal");
  assert.equal(refused["stop_details"]?.["type"], "refusal");
});

test("marked prompts are written to the cache once and read after, usage kept apart", async () => {
  const system = [{ type: "text", text: "You know rivers. ".repeat(50), cache_control: { type: "ephemeral" } }];
  const usage = async (): Promise<Loose> => (await bed.message({ system })).json()["usage"]!;
  const first = await usage();
  const second = await usage();
  assert.ok(Number(first["cache_creation_input_tokens"]) > 200);
  assert.equal(first["cache_read_input_tokens"], 0);
  assert.equal(second["cache_read_input_tokens"], first["cache_creation_input_tokens"]);
  assert.equal(second["cache_creation_input_tokens"], 0);
  assert.equal(second["input_tokens"], first["input_tokens"]);
});

test("tokens are counted without answering, and not billed", async () => {
  const body = { model: "claude-haiku-4-5", messages: [{ role: "user", content: "Tell me about rivers" }] };
  const lines = bed.simulator.invoice().length;
  const counted = await bed.post("claude", "/v1/messages/count_tokens", body, { "anthropic-version": "2023-06-01" });
  assert.equal(counted.json()["input_tokens"], (await bed.message({})).json()["usage"]?.["input_tokens"]);
  assert.equal(bed.simulator.invoice().length, lines + 1);
});

const call = { type: "tool_use", id: "toolu_1", name: "weather", input: {} };
const result = { type: "tool_result", tool_use_id: "toolu_1", content: "rain" };
const WRONG: readonly (readonly [string, Record<string, unknown>, RegExp, Record<string, string>?])[] = [
  ["a request without max_tokens", { max_tokens: undefined }, /^max_tokens: Field required$/],
  ["no messages", { messages: [] }, /at least one message is required/],
  ["an assistant first", { messages: [{ role: "assistant", content: "x" }] }, /first message must use the "user" role/],
  ["an unknown field", { temprature: 1 }, /^temprature: Extra inputs are not permitted$/],
  ["a temperature above one", { temperature: 1.5 }, /^temperature: range: 0\.\.1$/],
  ["sampling under the newest version", { temperature: 1 }, /^temperature: /, { "anthropic-version": "2026-10-21" }],
  ["an unknown version", {}, /^anthropic-version/, { "anthropic-version": "2020-01-01" }],
  ["too many tokens", { max_tokens: 1_000_000 }, /^max_tokens: 1000000 > 64000, which is the maximum/],
  [
    "a call without its result",
    {
      messages: [
        { role: "user", content: "x" },
        { role: "assistant", content: [call] },
        { role: "user", content: "y" },
      ],
    },
    /^messages\.1: `tool_use` ids were found without `tool_result`/,
  ],
  ["a result without its call", { messages: [{ role: "user", content: [result] }] }, /^messages\.0\.content\.0: unexpected `tool_use_id`/],
  [
    "text before a result",
    {
      messages: [
        { role: "user", content: "x" },
        { role: "assistant", content: [call] },
        { role: "user", content: [{ type: "text", text: "y" }, result] },
      ],
    },
    /must come before/,
  ],
  ["an empty text", { messages: [{ role: "user", content: [{ type: "text", text: "" }] }] }, /must be non-empty/],
  [
    "a prefill that ends in a space",
    {
      messages: [
        { role: "user", content: "x" },
        { role: "assistant", content: "y " },
      ],
    },
    /trailing whitespace/,
  ],
  ["a thinking budget too small", { thinking: { type: "enabled", budget_tokens: 10 } }, /greater than or equal to 1024/],
  ["a blank stop sequence", { stop_sequences: [" "] }, /non-whitespace/],
  ["a choice without tools", { tool_choice: { type: "any" } }, /Tools must be provided/],
];

for (const [what, fields, message, headers] of WRONG) {
  test(`Anthropic refuses ${what} with 400`, async () => {
    const answer = await bed.message(fields, headers);
    assert.equal(answer.status, 400, answer.text);
    assert.equal(answer.json()["error"]?.["type"], "invalid_request_error");
    assert.match(stringOf(answer.json()["error"]?.["message"]), message);
    assert.match(stringOf(answer.json()["request_id"]), /^req_/);
  });
}

test("the newest version answers what leaves sampling alone, and an unknown model is a 404", async () => {
  assert.equal((await bed.message({}, { "anthropic-version": "2026-10-21", authorization: "Bearer x" })).status, 200);
  assert.equal((await bed.message({ model: "claude-x" })).json()["error"]?.["type"], "not_found_error");
});

test("an answer begun by the caller is continued, or refused where the model does not take it", async () => {
  const messages = [{ role: "user", content: "Tell me about rivers" }];
  const full = stringOf((await bed.message({ messages })).json()["content"]?.[0]?.["text"]);
  const start = full.slice(0, 20).trimEnd();
  const rest = await bed.message({ messages: [...messages, { role: "assistant", content: start }] });
  assert.equal(start + stringOf(rest.json()["content"]?.[0]?.["text"]), full);
  const strict = await startBed(
    testProfiles()
      .slice(1, 2)
      .map((profile) => ({ ...profile, refusesPrefill: true })),
  );
  assert.equal((await strict.message({ messages: [...messages, { role: "assistant", content: start }] })).status, 400);
  await strict.simulator.stop();
});
