import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { openaiCodec } from "./api.ts";
import { backendOf, decodeText, NOW_MS, openOf, payloads, readAnswer, type ReadAnswer } from "./testkit.ts";

const FIXTURES = process.env["SIGNALBOX_FIXTURES"] ?? resolve(import.meta.dirname, "../../../../shared/fixtures/recorded");
const FOLDERS = ["openai/chat", "openai-compatible", "xai", "groq", "mistral", "deepseek", "azure", "alibaba", "moonshotai", "perplexity"];
const ABSENT = existsSync(FIXTURES)
  ? false
  : "recorded responses absent: set SIGNALBOX_FIXTURES to a checkout of vercel/ai's __fixtures__ by provider";

/** Recordings this dialect does not read, each with its reason. */
const EXCEPTIONS: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^groq\/groq-transcription|^mistral\/mistral-transcription/, "speech to text, another endpoint"],
  [/^azure\/(?!azure-deepseek)/, "the Responses API, another dialect"],
  [/^openai\/chat\/reasoning-model-legacy-parameter-error/, "an error answer: read by mapError below"],
];

const files = ABSENT ? [] : FOLDERS.flatMap((folder) => readdirSync(join(FIXTURES, folder)).map((name) => `${folder}/${name}`));
const readable = files.filter((file) => !EXCEPTIONS.some(([pattern]) => pattern.test(file)));

function eventsOf(file: string): string[] {
  const text = readFileSync(join(FIXTURES, file), "utf8");
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return (file.endsWith(".sse") ? lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()) : lines).filter(
    (line) => line !== "[DONE]",
  );
}

/** What a client has in the end, whatever numbers the provider gave its tool calls. */
function essence(answer: ReadAnswer): unknown {
  return [...answer.choices].map(([index, choice]) => ({ index, ...choice, calls: [...choice.calls.values()] }));
}

interface RawUsage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens?: number;
  cached_tokens?: number;
  prompt_cache_hit_tokens?: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
  completion_tokens_details?: { reasoning_tokens?: number } | null;
}

/** Usage as one reads it from the JSON: the prompt with its cached part, the completion with its reasoning. */
function checkUsage(usage: Usage | undefined, raw: RawUsage | undefined, file: string): void {
  if (raw === undefined || raw === null) return assert.equal(usage, undefined, file);
  assert.ok(usage, file);
  const reasoning = raw.completion_tokens_details?.reasoning_tokens ?? 0;
  const apart = reasoning > 0 && raw.total_tokens === raw.prompt_tokens + raw.completion_tokens + reasoning;
  assert.equal(usage.inputTokens + usage.cacheReadTokens, raw.prompt_tokens, `${file}: prompt`);
  assert.equal(
    usage.cacheReadTokens,
    raw.prompt_tokens_details?.cached_tokens ?? raw.prompt_cache_hit_tokens ?? raw.cached_tokens ?? 0,
    `${file}: cached`,
  );
  assert.equal(usage.outputTokens, raw.completion_tokens + (apart ? reasoning : 0), `${file}: completion`);
  assert.equal(usage.reasoningTokens, reasoning, `${file}: reasoning`);
  assert.equal(usage.anomaly, false, file);
}

test("every recorded stream keeps its text, reasoning, tool calls, finish and usage", { skip: ABSENT }, () => {
  let streams = 0;
  for (const file of readable.filter((name) => /\.(txt|sse)$/.test(name))) {
    const events = eventsOf(file);
    const expected = readAnswer(events);
    const decoded = decodeText(`${events.map((event) => `data: ${event}\n\n`).join("")}data: [DONE]\n\n`);
    assert.equal(decoded.end?.error, undefined, `${file}: ${decoded.end?.error?.message}`);
    const read = readAnswer(payloads(decoded.text));
    for (const choice of expected.choices.values()) choice.finish ||= "stop";
    assert.deepEqual(essence(read), essence(expected), file);
    assert.equal(read.ids.size, 1, `${file}: one identity`);
    checkUsage(decoded.facts.usage, expected.usage as RawUsage | undefined, file);
    const shown =
      decoded.end?.usageEvent === undefined ? undefined : readAnswer(payloads(Buffer.from(decoded.end.usageEvent).toString())).usage;
    assert.deepEqual(shown ?? undefined, expected.usage ?? undefined, file);
    assert.equal(read.usage ?? undefined, undefined, `${file}: usage leaves only at the end`);
    streams++;
  }
  console.log(`${streams} recorded streams`);
  assert.ok(streams > 15);
});

test("every recorded body keeps its text, reasoning, tool calls, finish and usage", { skip: ABSENT }, () => {
  let bodies = 0;
  for (const file of readable.filter((name) => name.endsWith(".json"))) {
    const text = readFileSync(join(FIXTURES, file), "utf8");
    const decoded = openaiCodec.decodeBody(
      { open: openOf({ stream: false }), backend: backendOf(), memo: undefined, nowMs: NOW_MS },
      Buffer.from(text),
    );
    assert.equal(decoded.error, undefined, `${file}: ${decoded.error?.message}`);
    const expected = readAnswer([text]);
    assert.deepEqual(essence(readAnswer([Buffer.from(decoded.body).toString()])), essence(expected), file);
    checkUsage(decoded.facts.usage, expected.usage as RawUsage | undefined, file);
    bodies++;
  }
  console.log(`${bodies} recorded bodies`);
  assert.ok(bodies > 12);
});

test("every exception stands for a recording", { skip: ABSENT }, () => {
  for (const [pattern, reason] of EXCEPTIONS)
    assert.ok(
      files.some((file) => pattern.test(file)),
      `${pattern}: ${reason}`,
    );
});

test("the recorded error says which parameter it is about", { skip: ABSENT }, () => {
  const body = readFileSync(join(FIXTURES, "openai/chat/reasoning-model-legacy-parameter-error.json"));
  const error = openaiCodec.mapError({ status: 400, headers: {}, body, nowMs: NOW_MS });
  assert.deepEqual([error.reason, error.param, error.code], ["UPSTREAM_REJECTED", "max_tokens", "unsupported_parameter"]);
});
