/**
 * Names of spans, attributes, events and metrics, in one place. The `gen_ai.*` ones are OpenTelemetry's GenAI conventions
 * (repository open-telemetry/semantic-conventions-genai); the `signalbox.*` ones are ours. A test pins them: dashboards and
 * alerts of other people stand on them.
 */
export const SPAN = {
  /** Root server span: `POST /v1/chat/completions`. */
  root: (method: string, route: string): string => `${method} ${route}`,
  /** Exactly one per request. */
  decide: "signalbox.decide",
  /** Client span of one attempt. */
  attempt: (operation: string, model: string): string => `${operation} ${model}`,
} as const;

/** Events on the decide span. */
export const EVENT = {
  /** One candidate with its terms. */
  candidate: "signalbox.candidate",
  /** The candidates were spent and the engine was asked again. */
  redecide: "signalbox.redecide",
} as const;

/** Attributes. */
export const ATTRIBUTE = {
  httpMethod: "http.request.method",
  httpRoute: "http.route",
  httpStatus: "http.response.status_code",
  urlPath: "url.path",
  errorType: "error.type",
  operation: "gen_ai.operation.name",
  provider: "gen_ai.provider.name",
  requestModel: "gen_ai.request.model",
  requestMaxTokens: "gen_ai.request.max_tokens",
  requestStream: "gen_ai.request.stream",
  responseModel: "gen_ai.response.model",
  responseId: "gen_ai.response.id",
  finishReasons: "gen_ai.response.finish_reasons",
  timeToFirstChunk: "gen_ai.response.time_to_first_chunk",
  inputTokens: "gen_ai.usage.input_tokens",
  outputTokens: "gen_ai.usage.output_tokens",
  cacheReadTokens: "gen_ai.usage.cache_read.input_tokens",
  cacheWriteTokens: "gen_ai.usage.cache_creation.input_tokens",
  reasoningTokens: "gen_ai.usage.reasoning.output_tokens",
  requestId: "signalbox.request.id",
  decisionId: "signalbox.decision.id",
  attemptId: "signalbox.attempt.id",
  attempt: "signalbox.attempt.number",
  attempts: "signalbox.attempts",
  hedge: "signalbox.attempt.hedge",
  outcome: "signalbox.attempt.outcome",
  purpose: "signalbox.attempt.purpose",
  replica: "signalbox.adapter.replica",
  backend: "signalbox.backend",
  model: "signalbox.model",
  requestClass: "signalbox.class",
  tenant: "signalbox.tenant",
  experiment: "signalbox.experiment",
  arm: "signalbox.experiment.arm",
  costNanoUsd: "signalbox.cost_nano_usd",
  configVersion: "signalbox.config.version",
  priceVersion: "signalbox.price.version",
  engine: "signalbox.policy.engine",
  policyStale: "signalbox.policy.stale",
  denyReason: "signalbox.deny.reason",
  queueMs: "signalbox.queue_ms",
  decideMs: "signalbox.decide_ms",
  score: "signalbox.candidate.score",
  predictedTtftMs: "signalbox.candidate.predicted_ttft_ms",
  predictedTpotMs: "signalbox.candidate.predicted_tpot_ms",
  candidateCost: "signalbox.candidate.cost_nano_usd",
  candidateQueue: "signalbox.candidate.queue",
  candidateInFlight: "signalbox.candidate.in_flight",
  excluded: "signalbox.candidate.excluded",
  excludedDetail: "signalbox.candidate.excluded_detail",
} as const;

/** Prometheus names of the ingress's metrics. `gen_ai.server.x` becomes `gen_ai_server_x` with its unit. */
export const METRIC = {
  requestDuration: "gen_ai_server_request_duration_seconds",
  timeToFirstToken: "gen_ai_server_time_to_first_token_seconds",
  timePerOutputToken: "gen_ai_server_time_per_output_token_seconds",
  operationDuration: "gen_ai_client_operation_duration_seconds",
  tokenUsage: "gen_ai_client_token_usage",
  requests: "signalbox_requests_total",
  requestsInFlight: "signalbox_requests_in_flight",
  attempts: "signalbox_attempts_total",
  retries: "signalbox_retries_total",
  tokens: "signalbox_tokens_total",
  cost: "signalbox_cost_nano_usd_total",
  unpriced: "signalbox_unpriced_total",
  overheadMs: "signalbox_overhead_seconds",
  decisionsStale: "signalbox_decisions_stale_total",
  connections: "signalbox_connections",
  bodyBytes: "signalbox_request_bodies_bytes",
  rateWaits: "signalbox_requests_awaiting_rate_limit",
} as const;

/** Buckets of durations, seconds: 0.01 * 2^k up to 81.92 s (GenAI conventions). */
export const DURATION_BUCKETS_S = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/** Buckets of the time per output token, seconds (GenAI conventions). */
export const TOKEN_TIME_BUCKETS_S = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];

/** Buckets of token counts: powers of four (GenAI conventions). */
export const TOKEN_BUCKETS = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];

const PROVIDER_NAMES: Readonly<Record<string, string>> = {
  gemini: "gcp.gemini",
  bedrock: "aws.bedrock",
  azure: "azure.ai.openai",
  mistral: "mistral_ai",
  xai: "x_ai",
};

/** `gen_ai.provider.name` of a provider word; the conventions' own names where they differ from ours. */
export function providerName(provider: string): string {
  return PROVIDER_NAMES[provider] ?? provider;
}
