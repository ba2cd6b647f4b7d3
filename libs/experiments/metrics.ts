/**
 * What is measured of an arm. Shares are 0 or 1 per answer; logs are natural logarithms of ms, so that their mean is a geometric one
 * and a difference a ratio; amounts are nano-USD; scores 0 to 1.
 */
export const METRICS = {
  /** Attempts that failed, of those that ended well or failed. */
  error: "share",
  /** Answered requests of which an attempt had failed before. */
  retry: "share",
  /** Time to first token. */
  ttft: "log",
  /** Time per output token. */
  tpot: "log",
  /** From dispatch to the end of a whole answer. */
  duration: "log",
  /** Cost of a request, all its attempts. */
  cost: "amount",
  /** Cost of a request by its output tokens, per thousand. */
  cost_per_1k: "amount",
  /** Whole answers in which the model refused. */
  refusal: "share",
  /** Whole answers without text or tool call. */
  empty: "share",
  /** Answers to a JSON schema that keep to it. */
  schema_valid: "share",
  /** UTF-8 bytes of whole answers. */
  length: "amount",
  /** Only of shadow copies: whether they call the same tools as the client's answer, where one of both calls any. */
  tool_agreement: "share",
  /** Explicit scores and a judge's. */
  quality: "score",
} as const;

/** A metric's name. */
export type MetricName = keyof typeof METRICS;

/** Names, in the order they are shown. */
export const METRIC_NAMES = Object.keys(METRICS) as readonly MetricName[];

/** Whether it is a metric. */
export function isMetric(name: string): name is MetricName {
  return Object.hasOwn(METRICS, name);
}
