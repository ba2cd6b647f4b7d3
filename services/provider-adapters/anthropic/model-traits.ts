import { VERSION_2026 } from "./api.ts";

/** What differs between generations of the models behind one API. */
export interface ModelTraits {
  /** Whether `temperature`, `top_p`, `top_k` may be sent at all. */
  readonly sampling: boolean;
  /** Whether `temperature` and `top_p` may be sent together. */
  readonly samplingPair: boolean;
  /** How reasoning is asked for: not at all, by a token budget, or adaptively. */
  readonly thinking: "none" | "budget" | "adaptive";
  /** Whether adaptive thinking hides its text unless `display: summarized` asks for it. */
  readonly thinkingHidden: boolean;
  /** Whether `output_config.effort` is known; `xhigh` needs {@link effortXhigh}. */
  readonly effort: boolean;
  readonly effortXhigh: boolean;
  /** Whether tool definitions may be `strict`. */
  readonly strictTools: boolean;
  /** Whether an answer may be begun for it by a last assistant message: 4.6 and later answer 400. */
  readonly prefill: boolean;
  /** Whether `speed: fast` is known. */
  readonly fast: boolean;
}

/** Generation taken for a name that does not tell: the last one that takes every older parameter. */
const UNKNOWN_GENERATION = 4.5;

/** Generation taken for an unknown name under {@link VERSION_2026}, whose models are all new. */
const UNKNOWN_GENERATION_2026 = 5;

/** Numbers of one or two digits are versions; longer ones are release dates. */
const NAME_THEN_VERSION = /claude-[a-z]+-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)/;
const VERSION_THEN_NAME = /claude-(\d{1,2})(?:[-.](\d{1,2}))?-[a-z]+/;

/** The generation in a model's name (`claude-sonnet-4-5-20250929` is 4.5, `claude-3-haiku` is 3), or undefined. */
export function generationOf(model: string): number | undefined {
  const match = NAME_THEN_VERSION.exec(model) ?? VERSION_THEN_NAME.exec(model);
  if (match === null) return undefined;
  return Number(match[1]) + Number(match[2] ?? 0) / 10;
}

/** Traits of `model` under an API version. Prefixes and suffixes of resellers' names do not matter. */
export function traitsOf(model: string, version: string): ModelTraits {
  const isNewApi = version >= VERSION_2026;
  const generation = generationOf(model) ?? (isNewApi ? UNKNOWN_GENERATION_2026 : UNKNOWN_GENERATION);
  const isOpus = model.includes("opus");
  return {
    sampling: !isNewApi && generation < 4.7,
    samplingPair: generation < 4.1,
    thinking: generation >= 4.6 ? "adaptive" : generation >= 3.7 ? "budget" : "none",
    thinkingHidden: generation >= 4.7,
    effort: generation >= 4.6 || (generation >= 4.5 && isOpus),
    effortXhigh: generation >= 4.7,
    strictTools: generation >= 4.5,
    prefill: generation < 4.6,
    fast: generation >= 4.6,
  };
}
