import { SignalboxError } from "#libs/errors/index.ts";
import { EMBEDDING_INPUTS_MAX, TOKEN_ID_MAX } from "../limits.ts";
import { readModel, refuseDestinations } from "./chat.ts";
import type { JsonObject } from "./parse.ts";

/** What the gateway acts on in an embeddings request; everything else passes through untouched. */
export interface EmbeddingsRequest {
  readonly model: string;
  /** Inputs given as text. */
  readonly texts: readonly string[];
  /** Tokens of inputs given as tokens. */
  readonly tokens: number;
  /** Empty = none. */
  readonly user: string;
}

function invalid(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}

/** Checks an embeddings request and reads it. Throws REQUEST_MALFORMED or FEATURE_UNSUPPORTED with the parameter's name. */
export function readEmbeddings(body: JsonObject): EmbeddingsRequest {
  const model = readModel(body);
  refuseDestinations(body);
  const format = body["encoding_format"] ?? "float";
  if (format !== "float" && format !== "base64") throw invalid("encoding_format", "'encoding_format' must be float or base64.");
  const dimensions = body["dimensions"] ?? 1;
  if (typeof dimensions !== "number" || !Number.isInteger(dimensions) || dimensions < 1) {
    throw invalid("dimensions", "'dimensions' must be a positive integer.");
  }
  const user = body["user"] ?? "";
  if (typeof user !== "string") throw invalid("user", "'user' must be a string.");
  return { model, user, ...readInput(body["input"] ?? undefined) };
}

function readInput(input: unknown): Pick<EmbeddingsRequest, "texts" | "tokens"> {
  if (input === undefined) throw invalid("input", "You must provide an input parameter.");
  if (typeof input === "string") {
    if (input === "") throw invalid("input", "'input' must not be empty.");
    return { texts: [input], tokens: 0 };
  }
  if (!Array.isArray(input) || input.length === 0) {
    throw invalid("input", "'input' must be a string, an array of strings, an array of tokens or an array of token arrays.");
  }
  const items = input as readonly unknown[];
  if (typeof items[0] === "number") return { texts: [], tokens: countTokens(items, "input") };
  if (items.length > EMBEDDING_INPUTS_MAX) throw invalid("input", `'input' has more than ${EMBEDDING_INPUTS_MAX} entries.`);
  if (typeof items[0] === "string") {
    for (let index = 0; index < items.length; index++) {
      const item = items[index];
      if (typeof item !== "string" || item === "") throw invalid(`input[${index}]`, `'input[${index}]' must be a non-empty string.`);
    }
    return { texts: items as readonly string[], tokens: 0 };
  }
  let tokens = 0;
  for (let index = 0; index < items.length; index++) tokens += countTokens(items[index], `input[${index}]`);
  return { texts: [], tokens };
}

function countTokens(value: unknown, at: string): number {
  const isTokens =
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((token) => Number.isInteger(token) && (token as number) >= 0 && (token as number) <= TOKEN_ID_MAX);
  if (!isTokens) throw invalid(at, `'${at}' must be a non-empty array of token ids.`);
  return value.length;
}
