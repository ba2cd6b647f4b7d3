import type { MethodDefinition } from "@grpc/grpc-js";
import { ChannelCredentials, type ChannelOptions, credentials, ServerCredentials } from "@grpc/grpc-js";

/** Largest message, bytes: a request body of 32 MiB and what goes with it. */
export const MESSAGE_MAX_BYTES = 33 * 1024 * 1024;

/** Keepalive pings, ms: a peer that vanished without closing is noticed within 3 s. */
const KEEPALIVE_MS = 1_000;
const KEEPALIVE_TIMEOUT_MS = 2_000;

/** HTTP/2 window of connections and streams we read, bytes: sixteen attempts' windows without a stall. */
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

/** Mutual TLS of the mesh: PEM bytes. Without it the mesh speaks plain text, which is for one host or a private network only. */
export interface MeshTls {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Paths of the two multiplexed streams. */
export const SESSION_PATH = "/signalbox.policy.v1.PolicyService/Session";
export const ATTEMPTS_PATH = "/signalbox.adapter.v1.AdapterService/Attempts";

const sameBytes = (bytes: Buffer): Buffer => bytes;

/** A bidi stream of ready bytes. */
export function bytesStream(path: string): MethodDefinition<Buffer, Buffer> {
  return {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: sameBytes,
    requestDeserialize: sameBytes,
    responseSerialize: sameBytes,
    responseDeserialize: sameBytes,
  };
}

/** Options of every mesh listener. */
export const SERVER_OPTIONS: ChannelOptions = {
  "grpc.max_receive_message_length": MESSAGE_MAX_BYTES,
  "grpc.max_send_message_length": MESSAGE_MAX_BYTES,
  "grpc.keepalive_time_ms": KEEPALIVE_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc.enable_channelz": 0,
};

/** Options of every mesh connection. Retries are off: one owner retries, and it is not the transport. */
export const CLIENT_OPTIONS: ChannelOptions = {
  "grpc.max_receive_message_length": MESSAGE_MAX_BYTES,
  "grpc.max_send_message_length": MESSAGE_MAX_BYTES,
  "grpc.keepalive_time_ms": KEEPALIVE_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.enable_retries": 0,
  "grpc.enable_channelz": 0,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.service_config_disable_resolution": 1,
  "grpc.enable_http_proxy": 0,
  "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW_BYTES,
};

/** Credentials to dial with. */
export function dialCredentials(tls: MeshTls | undefined): ChannelCredentials {
  return tls ? credentials.createSsl(tls.ca, tls.key, tls.cert) : credentials.createInsecure();
}

/** Credentials to listen with; with TLS, callers must show a certificate of the same authority. */
export function listenCredentials(tls: MeshTls | undefined): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  return ServerCredentials.createSsl(tls.ca, [{ private_key: tls.key, cert_chain: tls.cert }], true);
}
