import type { AttemptError, Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { attemptError, type DecodeContext } from "../codec.ts";
import { flattenContent, saidBytes } from "./content.ts";
import { finishReasonOf } from "./finish.ts";
import { isObject, type Loose, normalizeUsage } from "./usage.ts";

/** What is to be done with a parsed chunk. */
export type ChunkVerdict =
  /** Its bytes may go as they are. */
  | { readonly kind: "pass"; readonly content: boolean }
  /** It goes with these members replaced, or removed where null. */
  | { readonly kind: "change"; readonly content: boolean; readonly members: Loose }
  /** It goes nowhere. */
  | { readonly kind: "drop" }
  /** It holds nothing but usage. */
  | { readonly kind: "usage" }
  | { readonly kind: "failed"; readonly error: AttemptError };

const DROP: ChunkVerdict = { kind: "drop" };
const USAGE_ONLY: ChunkVerdict = { kind: "usage" };

/** Choices beyond this are not followed; the API allows 128. */
const CHOICES_MAX = 128;

interface ChoiceState {
  finished: boolean;
  /** Our index of each tool call by the provider's. */
  readonly tools: Map<number, number>;
  toolsSeen: number;
}

/**
 * What a stream has said so far, and the rules for chunks that cannot simply pass: identity that is missing or changes, usage in
 * the wrong place, foreign or repeated finish reasons, content as a list, tool calls without their index.
 */
export class ChunkReader {
  id = "";
  model = "";
  created = 0;
  usage: Usage | undefined;
  /** Usage as the provider wrote it. */
  rawUsage: Loose | undefined;
  finishReason = "";
  contentBytes = 0;
  contentEvents = 0;
  /** A chunk with choices has been seen. */
  begun = false;
  readonly #choices = new Map<number, ChoiceState>();
  readonly #context: DecodeContext;
  #identity: Loose | undefined;

  constructor(context: DecodeContext) {
    this.#context = context;
  }

  /** Indexes of the choices that have begun and not finished, with whether they called tools. */
  unfinished(): readonly { readonly index: number; readonly tools: boolean }[] {
    const open: { index: number; tools: boolean }[] = [];
    for (const [index, choice] of this.#choices) if (!choice.finished) open.push({ index, tools: choice.toolsSeen > 0 });
    return open;
  }

  /** Reads one parsed chunk. */
  read(chunk: Loose): ChunkVerdict {
    this.#identify(chunk);
    const choices = Array.isArray(chunk["choices"]) ? (chunk["choices"] as readonly unknown[]) : [];
    const hadUsage = this.#takeUsage(chunk, choices);
    if (choices.length === 0) return hadUsage ? USAGE_ONLY : DROP;
    const contentBefore = this.contentBytes;
    const members: Record<string, unknown> = {};
    const kept: unknown[] = [];
    let changed = false;
    for (const choice of choices) {
      const result = this.#readChoice(choice);
      if (result instanceof Failure) return { kind: "failed", error: result.error };
      if (result !== choice) changed = true;
      if (result !== undefined) kept.push(result);
    }
    this.begun = true;
    if (kept.length === 0) return DROP;
    if (changed) members["choices"] = kept;
    this.#fixIdentity(chunk, members);
    if (isObject(chunk["usage"])) members["usage"] = null;
    const corner = chunk["x_groq"];
    if (isObject(corner) && corner["usage"] !== undefined) members["x_groq"] = { ...corner, usage: undefined };
    const content = this.contentBytes > contentBefore;
    if (content) this.contentEvents++;
    for (const _ in members) return { kind: "change", content, members };
    return content ? PASS_CONTENT : PASS;
  }

  #identify(chunk: Loose): void {
    if (this.id === "" && typeof chunk["id"] === "string") this.id = chunk["id"];
    if (this.model === "" && typeof chunk["model"] === "string") this.model = chunk["model"];
    if (this.created === 0 && typeof chunk["created"] === "number" && chunk["created"] > 0) this.created = Math.floor(chunk["created"]);
  }

  /** Identity of every chunk that leaves: settled by the first one, and ours where the provider gives none. */
  identity(): Loose {
    return (this.#identity ??= {
      id: this.id || `chatcmpl-${this.#context.open.attemptId}`,
      object: "chat.completion.chunk",
      created: this.created || Math.floor(this.#context.nowMs / 1000),
      model: this.model || this.#context.backend.model,
    });
  }

  #fixIdentity(chunk: Loose, members: Record<string, unknown>): void {
    const own = this.identity();
    for (const name in own) if (chunk[name] !== own[name]) members[name] = own[name];
  }

  /** Usage may stand in the chunk, in Groq's own corner or in a choice; the last one wins. */
  #takeUsage(chunk: Loose, choices: readonly unknown[]): boolean {
    const corner = isObject(chunk["x_groq"]) ? chunk["x_groq"]["usage"] : undefined;
    const inChoice = isObject(choices[0]) ? choices[0]["usage"] : undefined;
    const raw = [chunk["usage"], corner, inChoice].find(isObject);
    const usage = normalizeUsage(raw, chunk["service_tier"]);
    if (usage === undefined) return false;
    this.usage = usage;
    this.rawUsage = raw;
    return true;
  }

  /** The choice to send: itself, a changed copy, or undefined where nothing is left of it. */
  #readChoice(choice: unknown): unknown {
    if (!isObject(choice)) return undefined;
    const index = typeof choice["index"] === "number" ? choice["index"] : 0;
    const state = this.#stateOf(index);
    if (state === undefined) return undefined;
    let delta = isObject(choice["delta"]) ? choice["delta"] : undefined;
    const said = saidBytes(delta);
    this.contentBytes += said;
    const changes: Record<string, unknown> = {};
    if (delta !== undefined) {
      const fixed = this.#fixTools(flattenContent(delta), state);
      if (fixed !== delta) changes["delta"] = delta = fixed;
    } else {
      changes["delta"] = {};
    }
    const word = choice["finish_reason"];
    if (typeof word === "string" && word !== "") {
      if (state.finished && said === 0) return undefined;
      const reason = finishReasonOf(word);
      if (reason === undefined) return new Failure(`The provider ended the answer with "${word.slice(0, 100)}".`);
      state.finished = true;
      if (this.finishReason === "" || index === 0) this.finishReason = reason;
      if (reason !== word) changes["finish_reason"] = reason;
    } else if (word === "") {
      changes["finish_reason"] = null;
    }
    if (choice["index"] !== index) changes["index"] = index;
    if (isObject(choice["usage"])) changes["usage"] = undefined;
    for (const _ in changes) return { ...choice, ...changes };
    return choice;
  }

  #stateOf(index: number): ChoiceState | undefined {
    let state = this.#choices.get(index);
    if (state === undefined && this.#choices.size < CHOICES_MAX) {
      state = { finished: false, tools: new Map(), toolsSeen: 0 };
      this.#choices.set(index, state);
    }
    return state;
  }

  /** Tool calls numbered 0, 1, 2 within the choice, each with index and type, as the API promises. */
  #fixTools(delta: Loose, state: ChoiceState): Loose {
    const calls = delta["tool_calls"];
    if (!Array.isArray(calls)) return delta;
    let changed = false;
    const fixed = (calls as readonly unknown[]).map((call) => {
      if (!isObject(call)) return call;
      const begins = typeof call["id"] === "string" && call["id"] !== "";
      const given = typeof call["index"] === "number" ? call["index"] : begins ? -1 - state.toolsSeen : lastOf(state.tools);
      let index = state.tools.get(given);
      if (index === undefined) {
        index = state.toolsSeen++;
        state.tools.set(given, index);
      }
      if (call["index"] === index && (!begins || call["type"] !== undefined)) return call;
      changed = true;
      return { ...call, index, ...(begins && call["type"] === undefined ? { type: "function" } : {}) };
    });
    return changed ? { ...delta, tool_calls: fixed } : delta;
  }

  /** Whether usage goes to the caller at the end. */
  get wantsUsage(): boolean {
    return this.#context.open.includeUsage && this.rawUsage !== undefined;
  }
}

const PASS: ChunkVerdict = { kind: "pass", content: false };
const PASS_CONTENT: ChunkVerdict = { kind: "pass", content: true };

/** A choice that says the generation failed. */
class Failure {
  readonly error: AttemptError;

  constructor(message: string) {
    this.error = attemptError("UPSTREAM_UNAVAILABLE", message, { httpStatus: 200 });
  }
}

function lastOf(tools: ReadonlyMap<number, number>): number {
  let last = -1;
  for (const given of tools.keys()) last = given;
  return last;
}
