import type { IncomingHttpHeaders } from "node:http";
import type { Clock } from "#libs/clock/index.ts";
import type { Answered, Asked, DialectService } from "../dialect.ts";
import type { Limited, MinuteBucket, ProviderLimits } from "../engine/buckets.ts";
import type { Call } from "../engine/call.ts";
import type { IdSource } from "../engine/ids.ts";
import type { FaultOptions, StatusKind } from "../faults/kinds.ts";
import type { JsonObject } from "../http/json.ts";
import { jsonReply, type Reply } from "../http/reply.ts";
import { retryAfterHeaders } from "../http/retry-after.ts";
import type { SimBackendProfile } from "../profile.ts";
import { ANTHROPIC_VERSIONS, isRefusal, readMessageCall } from "./message-call.ts";
import { messageJson, MessageStream } from "./message-render.ts";
import { anthropicBody, anthropicFault, type AnthropicProblem, refused } from "./problem.ts";

/** Anthropic's Messages API. */
export class AnthropicService implements DialectService {
  readonly paths = ["/v1/messages", "/v1/messages/count_tokens"];
  readonly #profile: SimBackendProfile;
  readonly #limits: ProviderLimits;
  readonly #ids: IdSource;
  readonly #clock: Clock;

  constructor(profile: SimBackendProfile, limits: ProviderLimits, ids: IdSource, clock: Clock) {
    this.#profile = profile;
    this.#limits = limits;
    this.#ids = ids;
    this.#clock = clock;
  }

  authenticate(headers: IncomingHttpHeaders, requestId: string): Reply | undefined {
    const { key } = this.#profile;
    if (key === undefined || headers["x-api-key"] === key || headers.authorization === `Bearer ${key}`) return undefined;
    const missing = headers["x-api-key"] === undefined && headers.authorization === undefined;
    return this.#error(
      {
        status: 401,
        type: "authentication_error",
        message: missing ? "x-api-key header is required" : "invalid x-api-key",
        shouldRetry: false,
      },
      requestId,
    );
  }

  ask(path: string, headers: IncomingHttpHeaders, body: JsonObject | undefined, requestId: string): Asked | Answered {
    const refuse = (problem: AnthropicProblem): Answered => ({ kind: "reply", reply: this.#error(problem, requestId) });
    const version = headers["anthropic-version"];
    if (typeof version !== "string") return refuse(refused("anthropic-version: header is required"));
    if (!ANTHROPIC_VERSIONS.includes(version)) return refuse(refused(`anthropic-version: "${version}" is not a valid version`));
    if (!body) return refuse(refused("The request body is not valid JSON: expected value: line 1 column 1 (char 0)"));
    const counting = path === "/v1/messages/count_tokens";
    const call = readMessageCall(body, version, this.#profile, counting);
    if (isRefusal(call)) return refuse(call);
    if (call.model !== this.#profile.model && !this.#profile.aliases?.includes(call.model)) {
      return refuse({ status: 404, type: "not_found_error", message: `model: ${call.model}` });
    }
    if (counting) {
      return { kind: "reply", reply: jsonReply(200, JSON.stringify({ input_tokens: call.meter.tokens }), this.headers(requestId)) };
    }
    const tooLong = this.#tooLong(call);
    if (tooLong) return refuse(tooLong);
    const id = `msg_01${this.#ids.alphanumeric(22)}`;
    const drawToolId = (): string => `toolu_01${this.#ids.alphanumeric(22)}`;
    return {
      kind: "generate",
      call,
      id,
      drawToolId,
      stream: (generation, frame) => new MessageStream(generation, frame),
      json: messageJson,
    };
  }

  fault(kind: StatusKind, options: FaultOptions, model: string, requestId: string): Reply {
    if (kind === "502-html")
      return {
        status: 502,
        headers: [],
        contentType: "text/html",
        body: "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n",
      };
    const asks = kind.startsWith("429") && kind !== "429-quota";
    const reply = this.#error(anthropicFault(kind, model, this.#profile.contextTokens), requestId);
    return asks || options.retryAfter !== undefined
      ? { ...reply, headers: [...reply.headers, ...retryAfterHeaders(options, this.#clock.now())] }
      : reply;
  }

  limited(limited: Limited, _model: string, requestId: string): Reply {
    const unit =
      limited.what === "tokens"
        ? "input tokens per minute"
        : limited.what === "requests"
          ? "requests per minute"
          : "concurrent connections";
    const message = `This request would exceed your organization's rate limit of ${limited.limit} ${unit}. For details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for current usage.`;
    const reply = this.#error({ status: 429, type: "rate_limit_error", message }, requestId);
    return { ...reply, headers: [...reply.headers, "retry-after", String(Math.max(1, Math.ceil(limited.retryAfterMs / 1000)))] };
  }

  plainError(status: 404 | 405 | 413 | 503, detail: string, requestId: string): Reply {
    const problems: Readonly<Record<number, AnthropicProblem>> = {
      404: { status, type: "not_found_error", message: "Not Found" },
      405: { status, type: "invalid_request_error", message: `Method Not Allowed: ${detail}` },
      413: { status, type: "request_too_large", message: "Request exceeds the maximum size" },
      503: { status: 529, type: "overloaded_error", message: "Overloaded" },
    };
    return this.#error(problems[status]!, requestId);
  }

  headers(requestId: string): string[] {
    const nowMs = this.#clock.now();
    const { requests, tokens } = this.#limits;
    return [
      "request-id",
      requestId,
      "anthropic-organization-id",
      "5a1e7c0d-0000-4000-8000-000000000000",
      ...bucketHeaders("requests", requests, nowMs),
      ...bucketHeaders("input-tokens", tokens, nowMs),
      ...bucketHeaders("output-tokens", tokens, nowMs),
      ...bucketHeaders("tokens", tokens, nowMs),
    ];
  }

  #tooLong(call: Call): AnthropicProblem | undefined {
    const { contextTokens } = this.#profile;
    const { tokens } = call.meter;
    if (tokens > contextTokens) return refused(`prompt is too long: ${tokens} tokens > ${contextTokens} maximum`);
    const asked = call.maxTokens ?? 0;
    if (tokens + asked <= contextTokens) return undefined;
    return refused(
      `input length and \`max_tokens\` exceed context limit: ${tokens} + ${asked} > ${contextTokens}, decrease input length or \`max_tokens\` and try again`,
    );
  }

  #error(problem: AnthropicProblem, requestId: string): Reply {
    const retry = problem.shouldRetry === undefined ? [] : ["x-should-retry", String(problem.shouldRetry)];
    return jsonReply(problem.status, anthropicBody(problem, requestId), [...this.headers(requestId), ...retry]);
  }
}

/** Anthropic's rate limit headers, flat; resets are RFC 3339 times. */
function bucketHeaders(name: string, bucket: MinuteBucket, nowMs: number): string[] {
  const reset = new Date(nowMs + bucket.resetMs(nowMs)).toISOString().replace(/\.\d+Z$/, "Z");
  const prefix = `anthropic-ratelimit-${name}`;
  return [`${prefix}-limit`, String(bucket.limit), `${prefix}-remaining`, String(bucket.remaining(nowMs)), `${prefix}-reset`, reset];
}
