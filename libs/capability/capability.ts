import type { CapabilityName } from "#libs/config/model.ts";

/** Bit numbers of the capability mask. Part of the wire (DecideRequest.needs): append only. */
export const CAPABILITY_BITS: Readonly<Record<CapabilityName, number>> = {
  tools: 0,
  vision: 1,
  json_schema: 2,
  audio: 3,
  pdf: 4,
  logprobs: 5,
  n: 6,
  json_object: 7,
  parallel_tools: 8,
  reasoning: 9,
  embeddings: 10,
  completions: 11,
  prefill: 12,
  streaming: 13,
};

const NAMES = Object.entries(CAPABILITY_BITS) as readonly [CapabilityName, number][];

/** The mask of a set of capabilities. */
export function maskOf(capabilities: Iterable<CapabilityName>): number {
  let mask = 0;
  for (const capability of capabilities) mask |= 1 << CAPABILITY_BITS[capability];
  return mask;
}

/** Names of the bits that `needs` has and `has` lacks, in bit order; empty when it can serve. */
export function missingFrom(needs: number, has: number): readonly CapabilityName[] {
  const missing = needs & ~has;
  if (missing === 0) return [];
  return NAMES.filter(([, bit]) => (missing & (1 << bit)) !== 0).map(([name]) => name);
}

/** Whether a mask is that of a model that answers nothing: it embeds and does nothing else. */
export function onlyEmbeds(mask: number): boolean {
  return mask === 1 << CAPABILITY_BITS.embeddings;
}

/** Share added to an estimated prompt before it is held against a context window: estimates err by about that much. */
const ESTIMATE_MARGIN = 1.1;

/** Whether an estimated prompt and an output limit fit a context window, all in tokens. Without a limit, one token must fit. */
export function fitsContext(inputTokens: number, maxOutputTokens: number, contextTokens: number): boolean {
  return Math.ceil(inputTokens * ESTIMATE_MARGIN) + Math.max(1, maxOutputTokens) <= contextTokens;
}
