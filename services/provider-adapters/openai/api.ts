import { type AttemptOpen, Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { ProviderCodec } from "../codec.ts";
import { rateLimitOf } from "../headers.ts";
import { decodeBody } from "./decode-body.ts";
import { OpenaiStreamDecoder } from "./decode-stream.ts";
import { decodeEmbeddings, encodeEmbeddings } from "./embeddings.ts";
import { encodeRequest } from "./encode-request.ts";
import { mapError } from "./map-error.ts";
import { quirksOf } from "./quirks.ts";

/** Chat completions and embeddings as OpenAI and everyone who copied them speak it: bytes pass through, quirks are evened out. */
export const openaiCodec: ProviderCodec = {
  name: "openai",
  accepts: (dialect) => dialect === Dialect.OPENAI_CHAT || dialect === Dialect.OPENAI_EMBEDDINGS || dialect === Dialect.UNSPECIFIED,
  encode: (open, backend) => (isEmbeddings(open) ? encodeEmbeddings(open, backend) : encodeRequest(open, backend)),
  decodeStream: (context, output) => new OpenaiStreamDecoder(context, output),
  decodeBody: (context, body) => (isEmbeddings(context.open) ? decodeEmbeddings(body) : decodeBody(context, body)),
  mapError,
  rateLimit: rateLimitOf,
  authHeaders: (backend, key): Readonly<Record<string, string>> => {
    if (key === "") return {};
    return quirksOf(backend.provider).credential === "api-key" ? { "api-key": key } : { authorization: `Bearer ${key}` };
  },
};

function isEmbeddings(open: AttemptOpen): boolean {
  return open.dialect === Dialect.OPENAI_EMBEDDINGS;
}
