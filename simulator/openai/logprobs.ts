import { HASH_START, hashText } from "../engine/tokens.ts";

/** Likelihood of a token, as OpenAI gives it. */
export interface TokenLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number; readonly bytes: readonly number[] }[];
}

const ALTERNATIVES = [
  " a",
  " the",
  " of",
  " and",
  " to",
  " in",
  " is",
  " it",
  " on",
  " as",
  " at",
  " by",
  " or",
  " an",
  " be",
  " we",
  " so",
  " if",
  " up",
  " no",
];

/** Made-up but steady likelihoods: the same token always gets the same. */
export function logprobsOf(token: string, top: number): TokenLogprob {
  const logprob = -((hashText(HASH_START, token) >>> 0) % 1000) / 2000;
  const own = { token, logprob, bytes: [...Buffer.from(token)] };
  const others = ALTERNATIVES.filter((other) => other !== token).slice(0, Math.max(0, top - 1));
  const rest = others.map((other, rank) => ({ token: other, logprob: logprob - 1 - rank * 0.5, bytes: [...Buffer.from(other)] }));
  return { ...own, top_logprobs: top > 0 ? [own, ...rest] : [] };
}
