import { Dialect, type AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { headerOf, type EncodedRequest, type ProviderCodec, type UpstreamHeaders } from "../codec.ts";
import { rateLimitOf } from "../headers.ts";
import { isObject, VERSION_2023, VERSION_2026, type AnthropicTarget, type JsonObject } from "./api.ts";
import { decodeBody } from "./decode-body.ts";
import { createStreamDecoder } from "./decode-stream.ts";
import { translateRequest } from "./encode-request.ts";
import { mapError } from "./map-error.ts";

/** Below a base URL that names the API's version already, and below one that does not, as the SDK's default. */
const PATH_BELOW_VERSION = "/messages";
const PATH = "/v1/messages";

/** OpenAI chat on our side, Anthropic's Messages API on the other. */
export const anthropicCodec: ProviderCodec = {
  name: "anthropic",
  accepts: (dialect) => dialect === Dialect.OPENAI_CHAT,
  encode,
  decodeStream: createStreamDecoder,
  decodeBody,
  mapError,
  rateLimit: (headers, nowMs) => rateLimitOf(withTokenHeaders(headers), nowMs),
  authHeaders: (backend, key) => authHeaders(backend.anthropicVersion, key),
};

function encode(open: AttemptOpen, backend: BackendConfig): EncodedRequest {
  const version = backend.anthropicVersion === "" ? VERSION_2023 : backend.anthropicVersion;
  const target: AnthropicTarget = {
    model: backend.model,
    version,
    maxOutputTokens: backend.maxOutputTokens,
    enforcedOutputTokens: open.maxOutputTokens,
    serviceTiers: backend.serviceTiers,
    stream: open.stream,
    resumePrefix: open.resumePrefix,
    resumeTokens: open.resumeTokens,
  };
  const { request, betas, warnings } = translateRequest(parse(open.body), target);
  return {
    path: backend.url.endsWith("/v1") ? PATH_BELOW_VERSION : PATH,
    headers: { "anthropic-version": version, ...(betas.length === 0 ? {} : { "anthropic-beta": betas.join(",") }) },
    body: Buffer.from(JSON.stringify(request)),
    stream: open.stream,
    warnings,
  };
}

function parse(bytes: Uint8Array): JsonObject {
  let body: unknown;
  try {
    body = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch (cause) {
    throw new SignalboxError("REQUEST_MALFORMED", "the body is not valid JSON", { code: "invalid_json", cause });
  }
  if (!isObject(body)) throw new SignalboxError("REQUEST_MALFORMED", "the body must be a JSON object", { code: "invalid_json" });
  return body;
}

/** The newer version authenticates by bearer token, the older one by `x-api-key`. */
function authHeaders(version: string, key: string): Readonly<Record<string, string>> {
  if (key === "") return {};
  return version >= VERSION_2026 ? { authorization: `Bearer ${key}` } : { "x-api-key": key };
}

/** Accounts that limit input and output apart state no common token window: the input's stands for it, it runs out first. */
function withTokenHeaders(headers: UpstreamHeaders): UpstreamHeaders {
  if (headers["anthropic-ratelimit-tokens-remaining"] !== undefined || headers["anthropic-ratelimit-input-tokens-remaining"] === undefined)
    return headers;
  return {
    ...headers,
    "anthropic-ratelimit-tokens-limit": headerOf(headers, "anthropic-ratelimit-input-tokens-limit"),
    "anthropic-ratelimit-tokens-remaining": headerOf(headers, "anthropic-ratelimit-input-tokens-remaining"),
    "anthropic-ratelimit-tokens-reset": headerOf(headers, "anthropic-ratelimit-input-tokens-reset"),
  };
}
