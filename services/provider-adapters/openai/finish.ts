/** Finish reasons that may leave us. */
export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter" | "function_call";

const OWN: ReadonlySet<string> = new Set(["stop", "length", "tool_calls", "content_filter", "function_call"]);

/** Foreign words for a finish reason, in lower case. */
const FOREIGN: Readonly<Record<string, FinishReason>> = {
  // TGI, Together, Anthropic's and Gemini's compatible surfaces
  eos: "stop",
  eos_token: "stop",
  stop_sequence: "stop",
  end_turn: "stop",
  completed: "stop",
  max_tokens: "length",
  model_length: "length",
  model_context_window_exceeded: "length",
  tool_use: "tool_calls",
  tool_call: "tool_calls",
  safety: "content_filter",
  recitation: "content_filter",
  blocklist: "content_filter",
  prohibited_content: "content_filter",
  refusal: "content_filter",
};

/** Words that mean the answer is not one: SGLang aborts, DeepSeek runs out of machines, OpenRouter and Mistral pass an upstream's error. */
const FAILURES: ReadonlySet<string> = new Set(["error", "abort", "aborted", "insufficient_system_resource"]);

/** A provider's finish reason as one of ours; undefined when it says that the generation failed. Unknown words count as stop. */
export function finishReasonOf(word: string): FinishReason | undefined {
  if (OWN.has(word)) return word as FinishReason;
  const lower = word.toLowerCase();
  if (FAILURES.has(lower)) return undefined;
  return FOREIGN[lower] ?? (OWN.has(lower) ? (lower as FinishReason) : "stop");
}
