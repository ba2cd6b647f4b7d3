import { Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { ProviderCodec } from "../codec.ts";
import { rateLimitOf } from "../headers.ts";
import { decodeBody } from "./decode-body.ts";
import { OpenaiStreamDecoder } from "./decode-stream.ts";
import { encodeRequest } from "./encode-request.ts";
import { mapError } from "./map-error.ts";
import { quirksOf } from "./quirks.ts";

/** Chat completions as OpenAI and everyone who copied them speak it: bytes pass through, quirks are evened out. */
export const openaiCodec: ProviderCodec = {
  name: "openai",
  accepts: (dialect) => dialect === Dialect.OPENAI_CHAT || dialect === Dialect.UNSPECIFIED,
  encode: encodeRequest,
  decodeStream: (context, output) => new OpenaiStreamDecoder(context, output),
  decodeBody,
  mapError,
  rateLimit: rateLimitOf,
  authHeaders: (backend, key): Readonly<Record<string, string>> => {
    if (key === "") return {};
    return quirksOf(backend.provider).credential === "api-key" ? { "api-key": key } : { authorization: `Bearer ${key}` };
  },
};
