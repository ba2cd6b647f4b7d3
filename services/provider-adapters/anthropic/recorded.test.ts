import assert from "node:assert/strict";
import { test } from "node:test";
import { objectOf, textOf, type JsonObject } from "./api.ts";
import { anthropicCodec } from "./index.ts";
import { contextOf, decode, recordedBodies, recordedFolder, recordedStreams, sse, type OpenaiChunk } from "./testing.ts";

const folder = recordedFolder();
const skip = folder === undefined ? "recorded answers are absent: set SIGNALBOX_FIXTURES to their folder" : false;

/** Recordings that must not decode to an answer, each with its reason. */
const REFUSED: Readonly<Record<string, string>> = {
  // Two answers run into each other after half a tool call was put out: the client would execute half a call.
  "spliced-message-start": "a second answer begins inside the first",
};

/** Recordings whose bill differs from the stated totals, each with its reason. */
const BILLED_MORE: Readonly<Record<string, string>> = {
  "anthropic-compaction": "the totals leave out the compaction, which is billed at the same price",
};

interface Reading {
  text: string;
  reasoning: string;
  stopReason: string;
  usage: Record<string, number>;
  readonly tools: { readonly id: string; readonly name: string; arguments: string }[];
}

/** Reads the recorded JSON by its own, simpler rules: blocks are gathered first, then joined. */
function readEvents(events: readonly string[]): Reading {
  const reading: Reading = { text: "", reasoning: "", stopReason: "", usage: {}, tools: [] };
  const blocks: { block: JsonObject; json: string; text: string; thinking: string }[] = [];
  const at = new Map<number, (typeof blocks)[number]>();
  const open = (index: number, block: JsonObject): void => {
    const entry = { block, json: "", text: textOf(block["text"]), thinking: textOf(block["thinking"]) };
    blocks.push(entry);
    at.set(index, entry);
  };
  for (const event of events.map((line) => JSON.parse(line) as JsonObject)) {
    const message = objectOf(event["message"]);
    const delta = objectOf(event["delta"]);
    const entry = at.get(Number(event["index"]));
    if (event["type"] === "content_block_start") open(Number(event["index"]), objectOf(event["content_block"]));
    if (Array.isArray(message["content"])) message["content"].forEach((block, index) => open(index, objectOf(block)));
    if (entry !== undefined) {
      entry.text += textOf(delta["text"]);
      entry.thinking += textOf(delta["thinking"]);
      entry.json += textOf(delta["partial_json"]);
    }
    reading.stopReason = textOf(message["stop_reason"]) || textOf(delta["stop_reason"]) || reading.stopReason;
    mergeUsage(reading.usage, objectOf(message["usage"]));
    mergeUsage(reading.usage, objectOf(event["usage"]));
  }
  for (const { block, json, text, thinking } of blocks) {
    reading.text += text;
    reading.reasoning += thinking;
    if (block["type"] !== "tool_use") continue;
    const args = json === "" ? JSON.stringify(block["input"]) : json;
    reading.tools.push({ id: textOf(block["id"]), name: textOf(block["name"]), arguments: args });
  }
  return reading;
}

function mergeUsage(usage: Record<string, number>, stated: JsonObject): void {
  for (const [name, value] of Object.entries(stated)) if (typeof value === "number") usage[name] = value || (usage[name] ?? 0);
}

function readBody(body: JsonObject): Reading {
  const reading: Reading = { text: "", reasoning: "", stopReason: textOf(body["stop_reason"]), usage: {}, tools: [] };
  for (const block of (body["content"] as unknown[]).map(objectOf)) {
    reading.text += textOf(block["text"]);
    reading.reasoning += textOf(block["thinking"]);
    if (block["type"] !== "tool_use") continue;
    reading.tools.push({ id: textOf(block["id"]), name: textOf(block["name"]), arguments: JSON.stringify(block["input"]) });
  }
  mergeUsage(reading.usage, objectOf(body["usage"]));
  return reading;
}

const FINISH: Readonly<Record<string, string>> = {
  end_turn: "stop",
  max_tokens: "length",
  tool_use: "tool_calls",
  refusal: "content_filter",
};

function promptTokens(usage: Record<string, number>): number {
  return (usage["input_tokens"] ?? 0) + (usage["cache_read_input_tokens"] ?? 0) + (usage["cache_creation_input_tokens"] ?? 0);
}

function joinChunks(chunks: readonly OpenaiChunk[]): Reading {
  const reading: Reading = { text: "", reasoning: "", stopReason: "", usage: {}, tools: [] };
  for (const chunk of chunks) {
    const choice = chunk.choices[0]!;
    reading.text += choice.delta.content ?? "";
    reading.reasoning += choice.delta.reasoning_content ?? "";
    reading.stopReason = choice.finish_reason ?? reading.stopReason;
    for (const call of choice.delta.tool_calls ?? []) {
      const known = reading.tools[call.index];
      if (known === undefined) reading.tools[call.index] = { id: call.id!, name: call.function.name!, arguments: call.function.arguments };
      else known.arguments += call.function.arguments;
    }
  }
  return reading;
}

test("every recorded stream decodes without loss", { skip }, () => {
  const streams = recordedStreams(folder!);
  assert.ok(streams.length >= 46, `${streams.length} streams`);
  for (const { name, events } of streams) {
    const decoded = decode([sse(events)]);
    assert.equal(decoded.ends.length, 1, name);
    const end = decoded.ends[0]!;
    const refused = Object.entries(REFUSED).find(([file]) => name.startsWith(file))?.[1];
    if (refused !== undefined) {
      assert.match(end.error!.message, new RegExp(refused), name);
      continue;
    }
    assert.equal(end.error, undefined, name);
    assert.equal(end.garbage, false, name);
    const expected = readEvents(events);
    const actual = joinChunks(decoded.chunks);
    assert.equal(actual.text, expected.text, name);
    assert.equal(actual.reasoning, expected.reasoning, name);
    assert.deepEqual(actual.tools, expected.tools, name);
    assert.equal(actual.stopReason, FINISH[expected.stopReason], name);
    const usageChunk = JSON.parse(Buffer.from(end.usageEvent!).toString("utf8").slice(6)) as { choices: []; usage: Record<string, number> };
    assertUsage(name, usageChunk.usage, expected.usage);
    assert.deepEqual(usageChunk.choices, []);
    assert.equal(new Set(decoded.chunks.map((chunk) => `${chunk.id} ${chunk.created}`)).size, 1, name);
  }
});

test("every recorded body decodes without loss", { skip }, () => {
  const bodies = recordedBodies(folder!);
  assert.ok(bodies.length >= 27, `${bodies.length} bodies`);
  for (const { name, body } of bodies) {
    const expected = readBody(JSON.parse(body.toString("utf8")) as JsonObject);
    const decoded = anthropicCodec.decodeBody(contextOf(), body);
    assert.equal(decoded.error, undefined, name);
    assert.equal(decoded.garbage, false, name);
    const completion = JSON.parse(Buffer.from(decoded.body).toString("utf8")) as {
      choices: [{ message: JsonObject; finish_reason: string }];
      usage: Record<string, number>;
    };
    const { message, finish_reason: finishReason } = completion.choices[0];
    assert.equal(message["content"] ?? "", expected.text, name);
    assert.equal(message["reasoning_content"] ?? "", expected.reasoning, name);
    const calls = (message["tool_calls"] ?? []) as { id: string; function: { name: string; arguments: string } }[];
    assert.deepEqual(
      calls.map((call) => ({ id: call.id, ...call.function })),
      expected.tools,
      name,
    );
    assert.equal(finishReason, FINISH[expected.stopReason], name);
    assertUsage(name, completion.usage, expected.usage);
  }
});

function assertUsage(name: string, actual: Record<string, number>, expected: Record<string, number>): void {
  if (Object.keys(BILLED_MORE).some((file) => name.startsWith(file))) {
    assert.ok(actual["prompt_tokens"]! > promptTokens(expected), name);
    return;
  }
  assert.equal(actual["prompt_tokens"], promptTokens(expected), name);
  assert.equal(actual["completion_tokens"], expected["output_tokens"], name);
  assert.equal(actual["total_tokens"], actual["prompt_tokens"]! + actual["completion_tokens"]!, name);
}

test("a recorded stream cut at any event before message_stop is reported as truncated", { skip }, () => {
  for (const { name, events } of recordedStreams(folder!)) {
    if (name.startsWith("spliced")) continue;
    for (let count = 0; count < events.length; count += Math.ceil(events.length / 7)) {
      const { ends } = decode([sse(events.slice(0, count))]);
      assert.equal(ends[0]?.error?.reason, "UPSTREAM_PROTOCOL", `${name} cut at ${count}`);
      assert.equal(ends[0]?.error?.code, "upstream_truncated", `${name} cut at ${count}`);
      assert.equal(ends[0]?.usageEvent, undefined);
    }
  }
});

test("the answer does not depend on how the network cut the bytes", { skip }, () => {
  for (const { events } of recordedStreams(folder!).filter((stream) => stream.events.length < 40)) {
    const bytes = sse(events);
    const whole = decode([bytes]).text;
    for (const size of [1, 7, 100]) {
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
      assert.equal(decode(pieces).text, whole);
    }
  }
});
