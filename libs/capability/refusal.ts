import { missingFrom } from "./capability.ts";

/** Why one backend may not serve a request: a requirement by its word, and a line for a person. */
export interface Refusal {
  readonly requirement: string;
  readonly detail: string;
}

/** A backend that failed earlier in this request. */
export const TRIED: Refusal = { requirement: "tried", detail: "failed earlier in this request" };

/** A backend that the caller's cost limit rules out. */
export const TOO_DEAR: Refusal = { requirement: "cost", detail: "would cost more than the request allows" };

/** A candidate with its reason, where it has one. */
interface RuledOut {
  readonly backend: string;
  readonly excluded?: Refusal | undefined;
}

/** The capabilities a backend lacks; one that lacks none but is out for want of them only embeds. */
export function lackOf(needs: number, has: number): Refusal {
  const [first, ...others] = missingFrom(needs, has);
  if (first === undefined) return { requirement: "chat", detail: "only embeds" };
  return { requirement: first, detail: `lacks ${[first, ...others].join(", ")}` };
}

/** A context window that is too small, all in tokens. */
export function contextRefusal(inputTokens: number, maxOutputTokens: number, contextTokens: number): Refusal {
  const answer = maxOutputTokens > 0 ? ` and ${maxOutputTokens} for the answer` : "";
  return {
    requirement: "context",
    detail: `about ${inputTokens} prompt tokens (10 % to spare)${answer} do not fit its ${contextTokens}`,
  };
}

/** Every ruled-out candidate with its reason, in one line. */
export function reasonsOf(excluded: readonly RuledOut[]): string {
  return excluded.map(({ backend, excluded: why }) => `${backend}: ${why?.requirement} (${why?.detail})`).join("; ");
}

/** The parameter at fault when these requirements rule everyone out: of the most frequent one, of the first in a tie; empty = none. */
export function paramAtFault(excluded: readonly RuledOut[]): string {
  const counts = new Map<string, number>();
  let best = "";
  for (const { excluded: why } of excluded) {
    if (why === undefined) continue;
    const count = (counts.get(why.requirement) ?? 0) + 1;
    counts.set(why.requirement, count);
    if (count > (counts.get(best) ?? 0)) best = why.requirement;
  }
  return paramOf(best);
}

function paramOf(requirement: string): string {
  switch (requirement) {
    case "tools":
    case "n":
    case "logprobs":
      return requirement;
    case "parallel_tools":
      return "parallel_tool_calls";
    case "json_schema":
    case "json_object":
      return "response_format";
    case "reasoning":
      return "reasoning_effort";
    case "vision":
    case "audio":
    case "pdf":
    case "context":
    case "prefill":
      return "messages";
    case "chat":
    case "embeddings":
    case "completions":
      return "model";
    default:
      return "";
  }
}
