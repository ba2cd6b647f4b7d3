// What the tests of this room share: a backend, an open, a client that reads answers the plain way.
import type { AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptOpenSchema, Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { defaultBackend } from "#libs/config/index.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { AnswerFacts, StreamEnd } from "../codec.ts";
import { openaiCodec } from "./api.ts";

/** A backend of the plainest kind, with `changes`. */
export function backendOf(changes: Partial<BackendConfig> = {}): BackendConfig {
  return defaultBackend({
    name: "b",
    provider: "openai",
    url: "http://127.0.0.1:1/v1",
    model: "upstream-model",
    contextTokens: 128_000,
    capabilities: new Set(),
    concurrency: { mode: "fixed", min: 1, max: 64 },
    ...changes,
  });
}

/** An open for backend `b`, with `changes`. */
export function openOf(changes: MessageInitShape<typeof AttemptOpenSchema> = {}): AttemptOpen {
  return create(AttemptOpenSchema, {
    attemptId: "0197-attempt",
    requestId: "request",
    attempt: 1,
    backend: "b",
    dialect: Dialect.OPENAI_CHAT,
    stream: true,
    includeUsage: true,
    ...changes,
  });
}

/** Wall clock of the tests, ms since the epoch. */
export const NOW_MS = 1_790_000_000_000;

/** What a decoder put out. */
export interface Decoded {
  readonly text: string;
  readonly pieces: readonly { readonly bytes: Buffer; readonly content: boolean; readonly contentEvents: number }[];
  readonly end: StreamEnd | undefined;
  readonly ends: number;
  readonly facts: AnswerFacts;
}

/** Decodes `chunks` as one streamed answer. */
export function decodeChunks(chunks: readonly Uint8Array[], open = openOf(), backend = backendOf(), finish = true): Decoded {
  const pieces: { bytes: Buffer; content: boolean; contentEvents: number }[] = [];
  let end: StreamEnd | undefined;
  let ends = 0;
  const decoder = openaiCodec.decodeStream(
    { open, backend, memo: undefined, nowMs: NOW_MS },
    {
      data: (bytes, content, contentEvents) => {
        if (ends > 0) throw new Error("data after the end");
        pieces.push({ bytes: Buffer.from(bytes), content, contentEvents });
      },
      end: (value) => {
        end = value;
        ends++;
      },
    },
  );
  for (const chunk of chunks) decoder.push(chunk);
  if (finish) decoder.finish();
  return { text: Buffer.concat(pieces.map((piece) => piece.bytes)).toString(), pieces, end, ends, facts: decoder.facts() };
}

/** Decodes a text as one streamed answer. */
export function decodeText(text: string, open = openOf(), backend = backendOf(), finish = true): Decoded {
  return decodeChunks([Buffer.from(text)], open, backend, finish);
}

/** A stream of these JSON events, closed by [DONE] unless told otherwise. */
export function sse(events: readonly unknown[], done = true): string {
  const lines = events.map((event) => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
  return lines.join("") + (done ? "data: [DONE]\n\n" : "");
}

/** A chunk as OpenAI writes it. */
export function chunkOf(delta: object, finish: string | null = null, more: object = {}): object {
  return {
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    created: 1_700_000_000,
    model: "m-2026",
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
    ...more,
  };
}

interface Call {
  id: string;
  name: string;
  arguments: string;
}

/** An answer as a client reads it: text, reasoning, tool calls and finish by choice, and the last usage. */
export interface ReadAnswer {
  readonly choices: Map<number, { text: string; reasoning: string; calls: Map<number, Call>; finish: string }>;
  usage: unknown;
  ids: Set<string>;
}

/** Reads events the straightforward way: JSON.parse each, add up the deltas. Content parts of Mistral count as what they hold. */
export function readAnswer(events: readonly string[]): ReadAnswer {
  const answer: ReadAnswer = { choices: new Map(), usage: undefined, ids: new Set() };
  for (const event of events) {
    // A loose client: the shapes of fourteen providers have no common type.
    const chunk = JSON.parse(event) as LooseChunk;
    answer.usage = chunk.usage ?? chunk.x_groq?.usage ?? answer.usage;
    if ((chunk.choices ?? []).length > 0) answer.ids.add(`${chunk.id} ${chunk.created}`);
    for (const choice of chunk.choices ?? []) readChoice(answer, choice);
  }
  return answer;
}

interface LooseDelta {
  content?: string | null | { type: string; text?: string; thinking?: { text: string }[] }[];
  reasoning_content?: string | null;
  reasoning?: string | null;
  tool_calls?: { index?: number; id?: string; function?: { name?: string; arguments?: string } }[];
}

interface LooseChoice {
  index?: number;
  delta?: LooseDelta;
  message?: LooseDelta;
  finish_reason?: string | null;
}

interface LooseChunk {
  id?: string;
  created?: number;
  usage?: unknown;
  x_groq?: { usage?: unknown };
  choices?: LooseChoice[];
}

function readChoice(answer: ReadAnswer, choice: LooseChoice): void {
  const index = choice.index ?? 0;
  let read = answer.choices.get(index);
  if (read === undefined) answer.choices.set(index, (read = { text: "", reasoning: "", calls: new Map(), finish: "" }));
  const delta = choice.delta ?? choice.message ?? {};
  if (typeof delta.content === "string") read.text += delta.content;
  for (const part of Array.isArray(delta.content) ? delta.content : []) {
    if (part.type === "thinking") read.reasoning += (part.thinking ?? []).map((piece) => piece.text).join("");
    else read.text += part.text ?? "";
  }
  read.reasoning += delta.reasoning_content ?? delta.reasoning ?? "";
  for (const [position, call] of (delta.tool_calls ?? []).entries()) {
    const at = call.index ?? position;
    const known = read.calls.get(at);
    if (known === undefined)
      read.calls.set(at, { id: call.id ?? "", name: call.function?.name ?? "", arguments: call.function?.arguments ?? "" });
    else known.arguments += call.function?.arguments ?? "";
  }
  if (typeof choice.finish_reason === "string") read.finish = choice.finish_reason;
}

/** The `data:` payloads of a stream the decoder wrote. */
export function payloads(text: string): string[] {
  return text
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => {
      if (!/^data: ?\{.*\}$/s.test(event) || event.includes("\n")) throw new Error(`not a plain event: ${event}`);
      return event.replace(/^data: ?/, "");
    });
}
