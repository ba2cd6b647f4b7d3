import type { AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { isObject } from "../openai/usage.ts";

/** One thing to embed. */
export interface Input {
  /** Its JSON, which also tells identical ones. */
  readonly json: string;
  /** Estimated tokens; exact for token arrays. */
  readonly tokens: number;
}

/** An embeddings request that may share a call. */
export interface BatchRequest {
  /** Requests with the same key may share: what decides the vectors besides the inputs. */
  readonly key: string;
  readonly inputs: readonly Input[];
  /** Members of the shared body besides model and input. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** UTF-8 bytes of a token, about. */
const BYTES_PER_TOKEN = 4;

/** Members a shared call understands; `user` is a hint and stays behind. Anything else goes upstream as it came, alone. */
const SHARED = new Set(["model", "input", "dimensions", "encoding_format", "user"]);

/** Reads a request for sharing; undefined = it goes alone. */
export function readBatchRequest(open: AttemptOpen): BatchRequest | undefined {
  let body: unknown;
  try {
    body = JSON.parse(Buffer.from(open.body.buffer, open.body.byteOffset, open.body.byteLength).toString("utf8"));
  } catch {
    return undefined;
  }
  if (!isObject(body) || Object.keys(body).some((name) => !SHARED.has(name))) return undefined;
  const read = readInputs(body["input"]);
  if (read === undefined) return undefined;
  const options: Record<string, unknown> = {};
  for (const name of ["dimensions", "encoding_format"]) if (body[name] !== undefined && body[name] !== null) options[name] = body[name];
  return { key: `${read.kind} ${JSON.stringify(options)}`, inputs: read.inputs, options };
}

/** Text and tokens cannot share a call: `input` is a list of one kind. */
function readInputs(input: unknown): { readonly kind: "text" | "tokens"; readonly inputs: readonly Input[] } | undefined {
  if (typeof input === "string") return { kind: "text", inputs: [textInput(input)] };
  if (!Array.isArray(input) || input.length === 0) return undefined;
  const items = input as readonly unknown[];
  if (items.every((item) => typeof item === "string")) return { kind: "text", inputs: items.map(textInput) };
  if (isTokens(items)) return { kind: "tokens", inputs: [tokenInput(items)] };
  return items.every(isTokens) ? { kind: "tokens", inputs: items.map(tokenInput) } : undefined;
}

function isTokens(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.length > 0 && value.every(Number.isInteger);
}

function textInput(text: string): Input {
  return { json: JSON.stringify(text), tokens: Math.max(1, Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN)) };
}

function tokenInput(tokens: readonly number[]): Input {
  return { json: JSON.stringify(tokens), tokens: tokens.length };
}
