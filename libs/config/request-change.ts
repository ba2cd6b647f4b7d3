/** What an arm changes in requests: `system` replaces the system prompt, `system_append` adds to it, every other member sets a parameter (null removes it). */
export type RequestChange = Readonly<Record<string, unknown>>;

/** Members that are the caller's, or that other parts of the request stand on. */
const FIXED: ReadonlySet<string> = new Set([
  "model",
  "messages",
  "input",
  "prompt",
  "instructions",
  "stream",
  "stream_options",
  "n",
  "user",
  "safety_identifier",
  "metadata",
  "store",
  "service_tier",
  "tools",
  "tool_choice",
  "functions",
  "function_call",
  "modalities",
  "audio",
  "logprobs",
  "top_logprobs",
]);

/** Names of members: what JSON writes without escapes. */
const NAME = /^[a-z][a-z0-9_]{0,63}$/;

/** Names of the output limit. */
const OUTPUT_LIMITS: ReadonlySet<string> = new Set(["max_completion_tokens", "max_tokens"]);

/** Largest change, characters of JSON: a long system prompt; it is added to every request of the arm, and is part of every decision. */
export const CHANGE_MAX_CHARS = 32 * 1024;

/** Why a change cannot be made, as the end of a sentence that begins with its name; undefined = it can. */
export function changeProblem(change: RequestChange): string | undefined {
  for (const [name, value] of Object.entries(change)) {
    if (FIXED.has(name)) return `cannot change "${name}": it is the caller's`;
    if (!NAME.test(name)) return `"${name}" is no parameter`;
    if (name === "system" || name === "system_append") {
      if (typeof value !== "string" || value === "") return `"${name}" must be a text`;
    }
    if (OUTPUT_LIMITS.has(name) && value !== null && !isCount(value)) return `"${name}" must be a whole number above 0`;
  }
  if (JSON.stringify(change).length > CHANGE_MAX_CHARS) return `is longer than ${CHANGE_MAX_CHARS} characters`;
  return undefined;
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0;
}
