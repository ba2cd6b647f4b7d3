/** The default API version: sampling parameters are accepted, where the model takes them. */
export const VERSION_2023 = "2023-06-01";

/** From this version on, `temperature`, `top_p` and `top_k` are refused even at their defaults. Versions are dates and compare as text. */
export const VERSION_2026 = "2026-10-21";

/** Beta that opens `speed: fast` under {@link VERSION_2023}. */
export const FAST_MODE_BETA = "fast-mode-2026-02-01";

/** A JSON object whose members are not known to be anything yet. */
export type JsonObject = { readonly [name: string]: unknown };

/** What the request body is built for. */
export interface AnthropicTarget {
  /** Upstream model name. */
  readonly model: string;
  /** `anthropic-version` of the backend. */
  readonly version: string;
  /** Most output tokens the model gives; the default of `max_tokens`, and its ceiling. */
  readonly maxOutputTokens: number;
  /** Output ceiling set by a budget where the caller gave none; 0 = none. */
  readonly enforcedOutputTokens: number;
  /** Whether `service_tier` goes upstream. */
  readonly serviceTiers: boolean;
  readonly stream: boolean;
  /** Text already delivered, which the model continues; empty = a fresh answer. */
  readonly resumePrefix: string;
  /** Output tokens of that text; they come off the output limit. */
  readonly resumeTokens: number;
}

export interface TextBlock {
  readonly type: "text";
  readonly text: string;
  readonly cache_control?: JsonObject;
}

export interface ImageBlock {
  readonly type: "image";
  readonly source: ImageSource;
  readonly cache_control?: JsonObject;
}

export type ImageSource =
  | { readonly type: "base64"; readonly media_type: string; readonly data: string }
  | { readonly type: "url"; readonly url: string }
  | { readonly type: "file"; readonly file_id: string };

export interface DocumentBlock {
  readonly type: "document";
  readonly source: ImageSource | { readonly type: "text"; readonly media_type: "text/plain"; readonly data: string };
  readonly title?: string;
  readonly cache_control?: JsonObject;
}

export interface ToolUseBlock {
  readonly type: "tool_use";
  readonly id: string;
  readonly name: string;
  readonly input: unknown;
}

export interface ToolResultBlock {
  readonly type: "tool_result";
  readonly tool_use_id: string;
  readonly content?: string | readonly (TextBlock | ImageBlock | DocumentBlock)[];
  readonly is_error?: true;
  readonly cache_control?: JsonObject;
}

export type ThinkingBlock =
  | { readonly type: "thinking"; readonly thinking: string; readonly signature: string }
  | { readonly type: "redacted_thinking"; readonly data: string };

export type ContentBlock = TextBlock | ImageBlock | DocumentBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock;

export interface AnthropicMessage {
  readonly role: "user" | "assistant";
  readonly content: ContentBlock[];
}

export interface AnthropicTool {
  readonly name: string;
  readonly description?: string;
  readonly input_schema: JsonObject;
  readonly strict?: true;
  readonly cache_control?: JsonObject;
}

export type ToolChoice =
  | { readonly type: "auto" | "any"; readonly disable_parallel_tool_use?: true }
  | { readonly type: "tool"; readonly name: string; readonly disable_parallel_tool_use?: true }
  | { readonly type: "none" };

export type Effort = "low" | "medium" | "high" | "xhigh" | "max";

export type Thinking =
  | { readonly type: "enabled"; readonly budget_tokens: number }
  | { readonly type: "adaptive"; readonly display?: "summarized" }
  | { readonly type: "disabled" };

/** Body of `POST /v1/messages`, the part that is written here. */
export interface MessagesRequest {
  model: string;
  max_tokens: number;
  system?: readonly TextBlock[];
  messages: readonly AnthropicMessage[];
  stream?: true;
  stop_sequences?: readonly string[];
  temperature?: number;
  top_p?: number;
  top_k?: number;
  tools?: readonly AnthropicTool[];
  tool_choice?: ToolChoice;
  thinking?: Thinking;
  output_config?: { effort?: Effort; format?: { readonly type: "json_schema"; readonly schema: JsonObject } };
  metadata?: { readonly user_id: string };
  service_tier?: "auto" | "standard_only";
  speed?: "fast";
}

/** Whether `value` is a JSON object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The object that `value` is, or an empty one. */
export function objectOf(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

/** The text that `value` is, or an empty one. */
export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
