import { fieldValue, scanTopLevel } from "#libs/json-bytes/index.ts";
import { shareTokens } from "./share.ts";
import type { BatchRequest, Input } from "./request.ts";

const CLOSE_BRACE = 0x7d;
const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** One body for several requests. */
export interface Merged {
  readonly body: Uint8Array;
  /** Distinct inputs, as they are in the body. */
  readonly inputs: readonly Input[];
  /** Per request, where each of its inputs is. */
  readonly places: readonly (readonly number[])[];
}

/** Joins requests: identical inputs once, shortest first, because engines pad a batch to its longest neighbour. */
export function merge(model: string, requests: readonly BatchRequest[]): Merged {
  const distinct = new Map<string, Input>();
  for (const { inputs } of requests) for (const input of inputs) distinct.set(input.json, input);
  const inputs = [...distinct.values()].sort((a, b) => a.tokens - b.tokens);
  const placeOf = new Map(inputs.map((input, place) => [input.json, place]));
  const options = requests[0]?.options ?? {};
  const rest = Object.entries(options).map(([name, value]) => `,${JSON.stringify(name)}:${JSON.stringify(value)}`);
  const body = `{"model":${JSON.stringify(model)},"input":[${inputs.map(({ json }) => json).join(",")}]${rest.join("")}}`;
  return {
    body: Buffer.from(body),
    inputs,
    places: requests.map((request) => request.inputs.map(({ json }) => placeOf.get(json)!)),
  };
}

/** Tokens of each request: the provider's total by estimated length, an input several asked for shared between them. */
export function splitTokens(total: number, merged: Merged): number[] {
  const uses = merged.inputs.map(() => 0);
  for (const places of merged.places) for (const place of places) uses[place]!++;
  const weights = merged.places.map((places) => places.reduce((sum, place) => sum + merged.inputs[place]!.tokens / uses[place]!, 0));
  return shareTokens(total, weights);
}

/** The vectors of an answer as they are written, by index; undefined when the answer is not one vector for each of `count` inputs. */
export function readVectors(answer: Uint8Array, count: number): readonly Uint8Array[] | undefined {
  const fields = scanTopLevel(answer);
  const data = fields && fieldValue(answer, fields, "data");
  if (data === undefined || data[0] !== OPEN_BRACKET) return undefined;
  const vectors: Uint8Array[] = [];
  let seen = 0;
  let at = 1;
  while (at < data.length && data[at] !== CLOSE_BRACKET) {
    if (data[at] !== OPEN_BRACE) {
      at++;
      continue;
    }
    // An entry holds numbers, a base64 text and plain words: its first closing brace ends it.
    const end: number = data.indexOf(CLOSE_BRACE, at) + 1;
    if (end === 0) return undefined;
    const entry: Uint8Array = data.subarray(at, end);
    const members = scanTopLevel(entry);
    const vector = members && fieldValue(entry, members, "embedding");
    const stated: Uint8Array | undefined = members && fieldValue(entry, members, "index");
    const index = stated === undefined ? seen : Number(Buffer.from(stated).toString());
    if (vector === undefined || !(index >= 0 && index < count) || vectors[index] !== undefined) return undefined;
    vectors[index] = vector;
    seen++;
    at = end;
  }
  return seen === count ? vectors : undefined;
}

/** The answer of one request, made of its vectors. */
export function answerOf(vectors: readonly Uint8Array[], model: string, tokens: number): Uint8Array {
  const pieces: Uint8Array[] = [Buffer.from('{"object":"list","data":[')];
  for (const [index, vector] of vectors.entries()) {
    pieces.push(Buffer.from(`${index > 0 ? "," : ""}{"object":"embedding","index":${index},"embedding":`), vector, Buffer.from("}"));
  }
  pieces.push(Buffer.from(`],"model":${JSON.stringify(model)},"usage":{"prompt_tokens":${tokens},"total_tokens":${tokens}}}`));
  return Buffer.concat(pieces);
}
