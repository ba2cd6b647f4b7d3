import type { Call, ToolSpec } from "./call.ts";
import { instanceOf } from "./schema-instance.ts";
import { answerPieces, reasoningPieces, SeedStream, splitPieces, sumToken } from "./text.ts";

/** A stretch of output of one kind; every piece is one token. */
export type Part =
  | { readonly kind: "reasoning"; readonly pieces: readonly string[] }
  | { readonly kind: "text"; readonly pieces: readonly string[] }
  | { readonly kind: "tool"; readonly id: string; readonly name: string; readonly pieces: readonly string[] };

/** One answer. */
export interface Choice {
  readonly parts: readonly Part[];
  readonly finish: "stop" | "length" | "tool_calls" | "refusal";
  /** The stop string that ended it. */
  readonly stopMatched: string | undefined;
  readonly tokens: number;
  readonly reasoningTokens: number;
}

/** One token in the order of the stream. */
export interface Step {
  readonly choice: number;
  readonly part: number;
  readonly piece: number;
}

/** Everything a call will answer, decided before the first token. */
export interface Generation {
  readonly choices: readonly Choice[];
  readonly outputTokens: number;
  readonly reasoningTokens: number;
}

/** Length of answers, tokens. */
export interface AnswerLength {
  readonly medianTokens: number;
  readonly sigma: number;
}

/** Most tokens an answer may be told to have by a directive: bounds the memory of one request. */
const DIRECTED_TOKENS_MAX = 5_000_000;

/** Most tools called at once. */
const PARALLEL_TOOLS_MAX = 4;

const REFUSAL = ["I", "'m", " sorry", ",", " I", " can", "'t", " help", " with", " that", "."];

interface Directives {
  readonly tokens: number | undefined;
  readonly tools: string | undefined;
  readonly reasoning: number | undefined;
  readonly refusal: boolean;
}

const NO_DIRECTIVES: Directives = { tokens: undefined, tools: undefined, reasoning: undefined, refusal: false };

/**
 * Directives in the user's text steer the script: `[sim tokens=200]`, `[sim tools=single|parallel|none]`,
 * `[sim reasoning=30]`, `[sim refusal]`, or several in one.
 */
function directivesOf(text: string): Directives {
  const start = text.indexOf("[sim ");
  if (start < 0) return NO_DIRECTIVES;
  const end = text.indexOf("]", start);
  const words = new Map<string, string>();
  for (const word of text.slice(start + 5, end < 0 ? undefined : end).split(" ")) {
    const at = word.indexOf("=");
    words.set(at < 0 ? word : word.slice(0, at), at < 0 ? "" : word.slice(at + 1));
  }
  const numberOf = (name: string): number | undefined => {
    const value = Number(words.get(name));
    return words.has(name) && Number.isFinite(value) ? Math.min(DIRECTED_TOKENS_MAX, Math.max(0, Math.floor(value))) : undefined;
  };
  return { tokens: numberOf("tokens"), tools: words.get("tools"), reasoning: numberOf("reasoning"), refusal: words.has("refusal") };
}

/** Decides the whole answer. `drawId` makes ids of tool calls, `limit` is the model's most output tokens. */
export function generate(call: Call, length: AnswerLength, limit: number, drawId: () => string): Generation {
  const directives = directivesOf(call.lastUserText);
  const maxTokens = Math.min(call.maxTokens ?? limit, limit);
  const choices: Choice[] = [];
  for (let index = 0; index < call.choices; index++) choices.push(limited(draft(call, directives, length, index, drawId), call, maxTokens));
  let outputTokens = 0;
  let reasoningTokens = 0;
  for (const choice of choices) {
    outputTokens += choice.tokens;
    reasoningTokens += choice.reasoningTokens;
  }
  return { choices, outputTokens, reasoningTokens };
}

/** The tokens of all choices in stream order: choices take turns, as their sequences are decoded together. */
export function stepsOf(generation: Generation): Step[] {
  const walks = generation.choices.map((choice, index) => walk(choice, index));
  if (walks.length === 1) return walks[0]!;
  const steps: Step[] = [];
  for (let at = 0, left = true; left; at++) {
    left = false;
    for (const steps_ of walks) {
      const step = steps_[at];
      if (!step) continue;
      steps.push(step);
      left = true;
    }
  }
  return steps;
}

function walk(choice: Choice, index: number): Step[] {
  const steps: Step[] = [];
  choice.parts.forEach((part, partIndex) => {
    for (let piece = 0; piece < part.pieces.length; piece++) steps.push({ choice: index, part: partIndex, piece });
  });
  return steps;
}

interface Draft {
  readonly parts: readonly Part[];
  readonly finish: Choice["finish"];
}

function draft(call: Call, directives: Directives, length: AnswerLength, index: number, drawId: () => string): Draft {
  const seed = (call.meter.seed + Math.imul(index, 0x9e3779b1) + Math.imul(call.seed, 0x85ebca6b)) | 0;
  const parts: Part[] = [];
  const reasoning = call.reasoningTokens > 0 ? (directives.reasoning ?? call.reasoningTokens) : 0;
  if (reasoning > 0) parts.push({ kind: "reasoning", pieces: reasoningPieces(seed, reasoning) });
  if (directives.refusal) return { parts: [...parts, { kind: "text", pieces: REFUSAL }], finish: "refusal" };
  const called = toolsToCall(call, directives);
  if (called.length > 0) {
    for (const tool of called) {
      const pieces = splitPieces(JSON.stringify(instanceOf(tool.parameters, topicOf(call.lastUserText)) ?? {}));
      parts.push({ kind: "tool", id: drawId(), name: tool.name, pieces });
    }
    return { parts, finish: "tool_calls" };
  }
  parts.push({ kind: "text", pieces: textPieces(call, directives, length, seed) });
  return { parts, finish: "stop" };
}

function textPieces(call: Call, directives: Directives, length: AnswerLength, seed: number): readonly string[] {
  if (call.format === "json_object") {
    const answer = answerPieces(seed, 8, "").slice(0, -1).join("").trim();
    return splitPieces(JSON.stringify({ answer, sum: sumToken(answer).slice(5, -1) }));
  }
  if (call.format !== "text") return splitPieces(JSON.stringify(instanceOf(call.format.schema)));
  const drawn = Math.exp(Math.log(length.medianTokens) + length.sigma * new SeedStream(seed ^ 0x2545f491).normal());
  const pieces = answerPieces(seed, directives.tokens ?? Math.round(drawn), call.lastUserText);
  return call.prefill === undefined ? pieces : after(pieces, call.prefill);
}

/** What is left of an answer that starts with `prefill`; an answer that does not is given whole. */
function after(pieces: readonly string[], prefill: string): readonly string[] {
  if (!pieces.join("").startsWith(prefill)) return pieces;
  let skipped = 0;
  let at = 0;
  while (at < pieces.length && skipped + pieces[at]!.length <= prefill.length) skipped += pieces[at++]!.length;
  const rest = pieces.slice(at);
  if (skipped < prefill.length && rest.length > 0) rest[0] = rest[0]!.slice(prefill.length - skipped);
  return rest;
}

function toolsToCall(call: Call, directives: Directives): readonly ToolSpec[] {
  const { tools, toolChoice } = call;
  if (tools.length === 0 || toolChoice === "none") return [];
  if (typeof toolChoice === "object") return tools.filter((tool) => tool.name === toolChoice.name).slice(0, 1);
  if (toolChoice === "auto" && (!call.endsWithUser || directives.tools === "none")) return [];
  const wantsSeveral =
    directives.tools === "parallel" || (directives.tools === undefined && /\b(both|parallel)\b/i.test(call.lastUserText));
  if (!wantsSeveral || !call.parallelTools) return tools.slice(0, 1);
  return tools.length === 1 ? [tools[0]!, tools[0]!] : tools.slice(0, PARALLEL_TOOLS_MAX);
}

/** A capitalised word of the request to fill arguments with, so that they look meant; `signal` when there is none. */
function topicOf(text: string): string {
  return /\s([A-Z][a-z]{2,20})\b/.exec(text)?.[1] ?? "signal";
}

/** Applies stop strings, then the token limit. */
function limited(draft_: Draft, call: Call, maxTokens: number): Choice {
  const stopped = call.stops.length > 0 ? stopAt(draft_, call.stops) : undefined;
  const source = stopped?.parts ?? draft_.parts;
  const parts: Part[] = [];
  let tokens = 0;
  let reasoningTokens = 0;
  let cut = false;
  for (const part of source) {
    const room = maxTokens - tokens;
    cut = part.pieces.length > room;
    const pieces = cut ? part.pieces.slice(0, room) : part.pieces;
    if (pieces.length > 0 || part.kind === "text") parts.push(cut ? { ...part, pieces } : part);
    tokens += pieces.length;
    if (part.kind === "reasoning") reasoningTokens += pieces.length;
    if (cut) break;
  }
  const finish = cut ? "length" : stopped ? "stop" : draft_.finish;
  return { parts, finish, stopMatched: cut ? undefined : stopped?.matched, tokens, reasoningTokens };
}

function stopAt(draft_: Draft, stops: readonly string[]): { parts: readonly Part[]; matched: string } | undefined {
  const at = draft_.parts.findIndex((part) => part.kind === "text");
  const part = draft_.parts[at];
  if (!part) return undefined;
  const text = part.pieces.join("");
  let first = Infinity;
  let matched = "";
  for (const stop of stops) {
    const found = stop === "" ? -1 : text.indexOf(stop);
    if (found >= 0 && found < first) {
      first = found;
      matched = stop;
    }
  }
  if (first === Infinity) return undefined;
  const pieces: string[] = [];
  for (let length = 0, index = 0; length < first; index++) {
    const piece = part.pieces[index]!.slice(0, first - length);
    pieces.push(piece);
    length += piece.length;
  }
  return { parts: [...draft_.parts.slice(0, at), { kind: "text", pieces }], matched };
}
