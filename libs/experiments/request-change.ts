import type { RequestChange } from "#libs/config/request-change.ts";

/** Names of the output limit, the one that counts first. */
const OUTPUT_LIMITS = ["max_completion_tokens", "max_tokens"] as const;

/** UTF-8 bytes per token of a system prompt (routing, section 1.3), and tokens that frame a message. */
const BYTES_PER_TOKEN = 4;
const MESSAGE_TOKENS = 4;

/** What a change does to a request's estimate. */
export interface ChangeEffect {
  /** Prompt tokens it adds. A replaced system prompt may have been longer: the estimate errs to the safe side. */
  readonly inputTokens: number;
  /** Output limit it sets; 0 = it removes the caller's; undefined = it leaves it. */
  readonly maxOutputTokens: number | undefined;
  /** Whether answers then have to keep to a schema, which not every backend can. */
  readonly needsSchema: boolean;
}

/** No change, no effect. */
export const NO_EFFECT: ChangeEffect = { inputTokens: 0, maxOutputTokens: undefined, needsSchema: false };

/** The effect of a change. */
export function changeEffect(change: RequestChange): ChangeEffect {
  let inputTokens = 0;
  for (const name of ["system", "system_append"]) {
    const text = change[name];
    if (typeof text === "string") inputTokens += Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN) + MESSAGE_TOKENS;
  }
  const limit = OUTPUT_LIMITS.find((name) => change[name] !== undefined);
  const format = change["response_format"];
  return {
    inputTokens,
    maxOutputTokens: limit === undefined ? undefined : isCount(change[limit]) ? change[limit] : 0,
    needsSchema: typeof format === "object" && format !== null && (format as { type?: unknown }).type === "json_schema",
  };
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0;
}
