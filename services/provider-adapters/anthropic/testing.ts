import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import { AttemptOpenSchema, Dialect, type AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { defaultBackend } from "#libs/config/index.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import type { DecodeContext, StreamDecoder, StreamEnd } from "../codec.ts";
import { anthropicCodec } from "./index.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Folder of recorded Anthropic answers, or undefined where it is absent. */
export function recordedFolder(): string | undefined {
  const folder = `${process.env["SIGNALBOX_FIXTURES"] ?? `${ROOT}../shared/fixtures/recorded`}/anthropic`;
  return existsSync(folder) ? folder : undefined;
}

/** OpenAI's specification file, or undefined where it is absent. */
export function specFile(): string | undefined {
  const file = process.env["SIGNALBOX_SPEC"] ?? `${ROOT}../shared/spec/openai-openapi.yaml`;
  return existsSync(file) ? file : undefined;
}

/** One recorded answer: the JSON of its events, in order. A file of several conversations' turns gives several. */
export interface RecordedStream {
  readonly name: string;
  readonly events: readonly string[];
}

export function recordedStreams(folder: string): RecordedStream[] {
  const streams: RecordedStream[] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".chunks.txt"))) {
    let events: string[] = [];
    const lines = readFileSync(`${folder}/${file}`, "utf8").split("\n");
    for (const line of lines.filter((text) => text.trim() !== "")) {
      events.push(line);
      if ((JSON.parse(line) as { type: string }).type !== "message_stop") continue;
      streams.push({ name: `${file}#${streams.length}`, events });
      events = [];
    }
    if (events.length > 0) streams.push({ name: `${file}#${streams.length}`, events });
  }
  return streams;
}

export function recordedBodies(folder: string): { readonly name: string; readonly body: Buffer }[] {
  const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return files.map((name) => ({ name, body: readFileSync(`${folder}/${name}`) }));
}

/** The events as the API frames them. */
export function sse(events: readonly string[]): Buffer {
  return Buffer.from(events.map((event) => `event: ${(JSON.parse(event) as { type: string }).type}\ndata: ${event}\n\n`).join(""));
}

/** A backend of this provider. */
export function backendOf(fields: Partial<BackendConfig> = {}): BackendConfig {
  return defaultBackend({
    name: "claude",
    provider: "anthropic",
    url: "https://api.anthropic.com",
    model: "claude-sonnet-4-5",
    contextTokens: 200_000,
    maxOutputTokens: 8192,
    capabilities: new Set(["streaming", "tools"]),
    ...fields,
  });
}

/** An attempt with this OpenAI chat body. */
export function openOf(body: unknown, fields: Partial<AttemptOpen> = {}): AttemptOpen {
  const open = create(AttemptOpenSchema, { attemptId: "019-attempt", dialect: Dialect.OPENAI_CHAT, stream: true, includeUsage: true });
  return Object.assign(open, { body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)) }, fields);
}

export function contextOf(fields: Partial<AttemptOpen> = {}): DecodeContext {
  return { open: openOf({}, fields), backend: backendOf(), memo: undefined, nowMs: 1_790_000_000_500 };
}

/** Everything one stream came to. */
export interface Decoded {
  readonly text: string;
  readonly chunks: readonly OpenaiChunk[];
  readonly contentEvents: number;
  readonly ends: readonly StreamEnd[];
  readonly decoder: StreamDecoder;
}

/** A chat.completion.chunk, as far as tests look. */
export interface OpenaiChunk {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly delta: {
      readonly role?: string;
      readonly content?: string | null;
      readonly refusal?: string | null;
      readonly reasoning_content?: string;
      readonly thinking_blocks?: readonly unknown[];
      readonly tool_calls?: readonly {
        readonly index: number;
        readonly id?: string;
        readonly function: { readonly name?: string; readonly arguments: string };
      }[];
    };
    readonly finish_reason: string | null;
  }[];
  readonly usage?: unknown;
}

/** Pushes `pieces` through a fresh decoder and ends the stream. */
export function decode(pieces: readonly Uint8Array[], fields: Partial<AttemptOpen> = {}): Decoded {
  let text = "";
  let contentEvents = 0;
  const ends: StreamEnd[] = [];
  const decoder = anthropicCodec.decodeStream(contextOf(fields), {
    data: (bytes, _content, events) => {
      if (ends.length > 0) throw new Error("data after the end");
      text += Buffer.from(bytes).toString("utf8");
      contentEvents += events;
    },
    end: (end) => void ends.push(end),
  });
  for (const piece of pieces) decoder.push(piece);
  decoder.finish();
  return { text, chunks: chunksOf(text), contentEvents, ends, decoder };
}

/** The chunks in `text`; every event must be exactly one `data:` line. */
export function chunksOf(text: string): OpenaiChunk[] {
  const events = text.split("\n\n");
  if (events.pop() !== "") throw new Error("an event is cut");
  return events.map((event) => {
    if (!event.startsWith("data: ") || event.includes("\n")) throw new Error(`not one data line: ${event.slice(0, 80)}`);
    return JSON.parse(event.slice("data: ".length)) as OpenaiChunk;
  });
}
