import type { PromptMeter } from "./tokens.ts";

/** A function the caller offers. */
export interface ToolSpec {
  readonly name: string;
  /** JSON schema of its arguments. */
  readonly parameters: unknown;
}

/** A point the caller asked the prompt to be cached up to. */
export interface CacheBreakpoint {
  /** Tokens and characters of the prompt before it. */
  readonly tokens: number;
  readonly characters: number;
  readonly ttl: "5m" | "1h";
}

/** A validated request, free of its dialect. */
export interface Call {
  readonly model: string;
  readonly stream: boolean;
  /** Whether the stream states usage at its end. */
  readonly wantsUsage: boolean;
  /** Whether deltas may carry random padding. */
  readonly obfuscates: boolean;
  readonly choices: number;
  /** Service tier the answer says it got; undefined = the usual. */
  readonly serviceTier: string | undefined;
  readonly maxTokens: number | undefined;
  readonly stops: readonly string[];
  readonly meter: PromptMeter;
  /** Mixed into the answer's seed; 0 = none. */
  readonly seed: number;
  readonly lastUserText: string;
  /** Tools are called only when the turn is the user's: after a tool's result the model answers in words. */
  readonly endsWithUser: boolean;
  readonly tools: readonly ToolSpec[];
  readonly toolChoice: "none" | "auto" | "required" | { readonly name: string };
  readonly parallelTools: boolean;
  readonly format: "text" | "json_object" | { readonly schema: unknown };
  /** Reasoning tokens asked for; 0 = none. */
  readonly reasoningTokens: number;
  /** Start of the answer, to be continued; undefined = none. */
  readonly prefill: string | undefined;
  /** Smaller runs earlier. */
  readonly priority: number;
  /** `auto`: blocks are cached by themselves; else up to these points only. */
  readonly cache: "auto" | readonly CacheBreakpoint[];
  /** Alternatives per token; -1 = no logprobs. */
  readonly topLogprobs: number;
}
