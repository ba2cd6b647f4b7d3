import type { Effort, JsonObject, MessagesRequest, Thinking } from "./api.ts";
import { isObject } from "./api.ts";
import { malformed } from "./encode-content.ts";
import type { ModelTraits } from "./model-traits.ts";
import type { Warnings } from "./warnings.ts";

/** Smallest thinking budget the API takes, tokens. */
const BUDGET_MIN_TOKENS = 1024;

/** Share of `max_tokens` thinking may take at most: the rest is for the answer. */
const BUDGET_MAX_SHARE = 0.8;

/** Thinking budgets of models that know no effort, tokens. */
const BUDGETS: Readonly<Record<Effort, number>> = { low: 1024, medium: 4096, high: 16_384, xhigh: 32_768, max: 65_536 };

/** What reasoning adds to a request. */
export interface EncodedReasoning {
  readonly thinking?: Thinking;
  readonly effort?: Effort;
}

/**
 * `reasoning_effort` by model age: an effort with adaptive thinking, or a token budget, or nothing where the model cannot think.
 * The extension `thinking` goes as it is. `toolTurnWithoutThinking`: see `EncodedMessages`.
 */
export function encodeReasoning(
  body: JsonObject,
  request: MessagesRequest,
  traits: ModelTraits,
  toolTurnWithoutThinking: boolean,
  warnings: Warnings,
): EncodedReasoning {
  if (isObject(body["thinking"]) && typeof body["thinking"]["type"] === "string")
    return { thinking: body["thinking"] as unknown as Thinking };
  const effort = effortOf(body["reasoning_effort"]);
  if (effort === undefined) return {};
  if (effort === "none") return traits.thinking === "none" ? {} : { thinking: { type: "disabled" } };
  if (traits.thinking === "none") {
    warnings.add("reasoning_effort", "dropped, the model does not think");
    return {};
  }
  const known = knownEffort(effort, traits, warnings);
  const withEffort = traits.effort ? { effort: known } : {};
  const isForced = request.tool_choice?.type === "any" || request.tool_choice?.type === "tool";
  if (isForced) {
    warnings.add("reasoning_effort", "thinking left off, it cannot be combined with a forced tool");
    return withEffort;
  }
  if (traits.thinking === "adaptive") {
    return { ...withEffort, thinking: { type: "adaptive", ...(traits.thinkingHidden ? { display: "summarized" as const } : {}) } };
  }
  if (toolTurnWithoutThinking) {
    warnings.add("reasoning_effort", "thinking left off, the last tool calls came back without their thinking_blocks");
    return withEffort;
  }
  const budget = Math.min(BUDGETS[known], Math.floor(request.max_tokens * BUDGET_MAX_SHARE));
  if (budget < BUDGET_MIN_TOKENS) {
    warnings.add("reasoning_effort", `thinking left off, max_tokens leaves less than ${BUDGET_MIN_TOKENS} tokens for it`);
    return withEffort;
  }
  return { ...withEffort, thinking: { type: "enabled", budget_tokens: budget } };
}

function effortOf(value: unknown): Effort | "none" | undefined {
  switch (value) {
    case undefined:
    case null:
      return undefined;
    case "minimal":
      return "low";
    case "none":
    case "low":
    case "medium":
    case "high":
    case "xhigh":
    case "max":
      return value;
    default:
      throw malformed("must be none, minimal, low, medium, high, xhigh or max", "reasoning_effort");
  }
}

/** The nearest effort the model knows. Before adaptive thinking there were three. */
function knownEffort(effort: Effort, traits: ModelTraits, warnings: Warnings): Effort {
  if (!traits.effort || traits.effortXhigh) return effort;
  const isBeyond = effort === "xhigh" || (effort === "max" && traits.thinking !== "adaptive");
  if (isBeyond) warnings.add("reasoning_effort", "clamped to high");
  return isBeyond ? "high" : effort;
}
