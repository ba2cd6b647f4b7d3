import { isObject, textOf } from "./api.ts";

/** The OpenAI finish reasons an answer can end with here. */
export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter";

/** Said where a refusal comes without a reason. */
const REFUSAL_WITHOUT_REASON = "The model refused to answer.";

/** OpenAI's finish_reason for a stop_reason; an unknown one counts as stop. */
export function finishReasonOf(stopReason: string): FinishReason {
  switch (stopReason) {
    case "max_tokens":
    case "model_context_window_exceeded":
      return "length";
    case "tool_use":
      return "tool_calls";
    case "refusal":
      return "content_filter";
    default:
      return "stop";
  }
}

/** What a refusal says, from `stop_details`. */
export function refusalOf(stopDetails: unknown): string {
  const explanation = isObject(stopDetails) ? textOf(stopDetails["explanation"]) : "";
  return explanation === "" ? REFUSAL_WITHOUT_REASON : explanation;
}
