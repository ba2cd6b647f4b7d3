import { SeedStream } from "../engine/text.ts";
import { HASH_START, hashText, tokensOf } from "../engine/tokens.ts";
import type { JsonObject } from "../http/json.ts";
import type { SimDialect } from "../profile.ts";
import { textOfTokens } from "./completions.ts";
import { checkFields, EMBEDDING_FIELDS, typeProblem } from "./fields.ts";
import { invalid, type Problem } from "./problem.ts";

/** Length of a vector when nobody says: text-embedding-3-small's. */
const DEFAULT_DIMENSIONS = 1536;

/** Inputs of one request. */
const INPUTS_MAX = 2048;

/** Tokens of one input. */
const INPUT_TOKENS_MAX = 8192;

/** A validated embeddings request. */
export interface EmbeddingCall {
  readonly model: string;
  readonly inputs: readonly string[];
  readonly promptTokens: number;
  readonly dimensions: number;
  readonly base64: boolean;
}

/** Reads an embeddings request as OpenAI would. */
export function readEmbeddingCall(body: JsonObject, dialect: SimDialect): EmbeddingCall | Problem {
  const problem = checkFields(dialect, body, EMBEDDING_FIELDS, ["model", "input"]);
  if (problem) return problem;
  const inputs = readInputs(body["input"]);
  if (inputs === undefined)
    return typeProblem("input", "one of a string, array of strings, array of integers, or array of arrays", body["input"]);
  if (inputs.length === 0 || inputs.some((input) => input === ""))
    return invalid("'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.", null, null);
  if (inputs.length > INPUTS_MAX) {
    return invalid(
      `Invalid 'input': array too long. Expected an array with maximum length ${INPUTS_MAX}, but got an array with length ${inputs.length} instead.`,
      "input",
      "array_above_max_length",
    );
  }
  const dimensions = (body["dimensions"] ?? DEFAULT_DIMENSIONS) as number;
  if (dimensions > DEFAULT_DIMENSIONS)
    return invalid(`Invalid value for 'dimensions' = ${dimensions}. Must be less than or equal to ${DEFAULT_DIMENSIONS}.`, null, null);
  const counts = inputs.map(tokensOf);
  const longest = Math.max(...counts);
  if (longest > INPUT_TOKENS_MAX) {
    const text = `This model's maximum context length is ${INPUT_TOKENS_MAX} tokens, however you requested ${longest} tokens (${longest} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.`;
    return invalid(text, null, null);
  }
  const promptTokens = counts.reduce((sum, count) => sum + count, 0);
  return { model: body["model"] as string, inputs, promptTokens, dimensions, base64: body["encoding_format"] === "base64" };
}

function readInputs(input: unknown): readonly string[] | undefined {
  if (typeof input === "string") return [input];
  if (!Array.isArray(input)) return undefined;
  if (input.every((item) => typeof item === "string")) return input;
  if (input.length > 0 && input.every((item) => Number.isInteger(item))) return [textOfTokens(input as number[])];
  if (input.every((item) => Array.isArray(item) && item.length > 0 && item.every((token) => Number.isInteger(token)))) {
    return input.map((item) => textOfTokens(item as number[]));
  }
  return undefined;
}

/** The whole answer: unit vectors that depend on the text alone. */
export function embeddingsJson(call: EmbeddingCall): string {
  const data = call.inputs.map((input, index) => {
    const vector = vectorOf(input, call.dimensions);
    // Little-endian float32, as every supported platform lays out a Float32Array.
    const embedding = call.base64 ? Buffer.from(vector.buffer).toString("base64") : Array.from(vector);
    return { object: "embedding", index, embedding };
  });
  const usage = { prompt_tokens: call.promptTokens, total_tokens: call.promptTokens };
  return JSON.stringify({ object: "list", data, model: call.model, usage });
}

function vectorOf(text: string, dimensions: number): Float32Array {
  const random = new SeedStream(hashText(HASH_START, text));
  const vector = new Float32Array(dimensions);
  let squares = 0;
  for (let index = 0; index < dimensions; index++) {
    const value = random.next() - 0.5;
    vector[index] = value;
    squares += value * value;
  }
  const length = Math.sqrt(squares) || 1;
  for (let index = 0; index < dimensions; index++) vector[index]! /= length;
  return vector;
}
