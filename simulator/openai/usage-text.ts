import type { UsageCounts } from "../engine/usage.ts";
import type { FaultPlan } from "../faults/plan.ts";
import type { SimDialect } from "../profile.ts";
import { usageObject } from "./flavour.ts";

/** The usage objects to state, as JSON, in order: one, or what a fault makes of it. */
export function usageTexts(dialect: SimDialect, usage: UsageCounts, mode: FaultPlan["usage"]): readonly string[] {
  const honest = JSON.stringify(usageObject(dialect, usage));
  switch (mode) {
    case "twice": {
      const half = { ...usage, output: Math.floor(usage.output / 2), reasoning: Math.floor(usage.reasoning / 2) };
      return [JSON.stringify(usageObject(dialect, half)), honest];
    }
    case "inconsistent": {
      const odd = {
        ...usageObject(dialect, usage),
        total_tokens: usage.prompt,
        prompt_tokens_details: { cached_tokens: usage.prompt + 161 },
      };
      return [JSON.stringify(odd)];
    }
    case "huge":
      return [`{"prompt_tokens":1e308,"completion_tokens":99999999999999999999,"total_tokens":-1}`];
    case "normal":
    case "early":
    case "absent":
      return [honest];
  }
}
