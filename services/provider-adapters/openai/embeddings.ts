import type { AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { fieldValue, scanTopLevel, spliceTopLevel } from "#libs/json-bytes/index.ts";
import { attemptError, type DecodedBody, type EncodedRequest } from "../codec.ts";
import { mapErrorInside } from "./map-error.ts";
import { quirksOf } from "./quirks.ts";
import { isObject, normalizeUsage } from "./usage.ts";

const EMPTY = new Uint8Array(0);
const OPEN_BRACKET = 0x5b;

/** An embeddings request: the caller's bytes with the backend's model, and without what the provider does not take. */
export function encodeEmbeddings(open: AttemptOpen, backend: BackendConfig): EncodedRequest {
  const fields = open.fields.length > 0 ? open.fields : scanTopLevel(open.body);
  if (fields === undefined) throw new SignalboxError("REQUEST_MALFORMED", "The request body is not a JSON object that can be forwarded.");
  const changes = new Map<string, Uint8Array | null>([["model", Buffer.from(JSON.stringify(backend.model))]]);
  const warnings: string[] = [];
  if (quirksOf(backend.provider).drops.has("user") && fieldValue(open.body, fields, "user") !== undefined) {
    changes.set("user", null);
    warnings.push(`user: dropped, ${backend.provider} does not support it`);
  }
  return { path: "/embeddings", headers: {}, body: spliceTopLevel(open.body, fields, changes), stream: false, warnings };
}

function failed(message: string): DecodedBody {
  const facts = { usage: undefined, finishReason: "", upstreamModel: "", responseId: "", contentBytes: 0, contentEvents: 0 };
  return { body: EMPTY, facts, error: attemptError("UPSTREAM_PROTOCOL", message, { httpStatus: 200 }), garbage: false };
}

function valueOf(body: Uint8Array, fields: Uint32Array, name: string): unknown {
  const bytes = fieldValue(body, fields, name);
  if (bytes === undefined) return undefined;
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return undefined;
  }
}

/**
 * A whole embeddings answer, passed on as it came. Its vectors are not parsed: a thousand numbers each, of which none matters
 * here. Without stated usage `contentBytes` is 0, so that nobody estimates output tokens, which embeddings do not have.
 */
export function decodeEmbeddings(body: Uint8Array): DecodedBody {
  const fields = scanTopLevel(body);
  if (fields === undefined) return failed("The provider's answer is not a JSON object.");
  const data = fieldValue(body, fields, "data");
  if (data === undefined || data[0] !== OPEN_BRACKET) {
    const error = valueOf(body, fields, "error");
    if (isObject(error)) return { ...failed(""), error: mapErrorInside({ error }) };
    return failed("The provider's answer holds no embeddings.");
  }
  const usage = normalizeUsage(valueOf(body, fields, "usage"), undefined);
  const model = valueOf(body, fields, "model");
  const id = valueOf(body, fields, "id");
  return {
    body,
    facts: {
      usage,
      finishReason: "",
      upstreamModel: typeof model === "string" ? model : "",
      responseId: typeof id === "string" ? id : "",
      contentBytes: usage === undefined ? 0 : data.length,
      contentEvents: 0,
    },
    error: undefined,
    garbage: false,
  };
}
