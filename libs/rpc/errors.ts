import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type ServiceError, status as GrpcStatus, type StatusObject } from "@grpc/grpc-js";
import { type ErrorInfo, ErrorInfoSchema, type RetryInfo, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { type ErrorDetail, isReason, type Reason, SignalboxError } from "#libs/errors/index.ts";

/** Domain of our reasons in `google.rpc.ErrorInfo`. */
export const ERROR_DOMAIN = "signalbox";

const DETAILS_HEADER = "grpc-status-details-bin";

/** Reasons for codes that arrive without ours: from a transport, a proxy, another server. */
const REASON_OF_CODE: Readonly<Partial<Record<number, Reason>>> = {
  [Code.Canceled]: "CANCELED",
  [Code.InvalidArgument]: "REQUEST_MALFORMED",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "ROUTE_UNKNOWN",
  [Code.Unimplemented]: "ROUTE_UNKNOWN",
  [Code.PermissionDenied]: "POLICY_DENIED",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
  [Code.ResourceExhausted]: "RATE_LIMITED",
  [Code.Unavailable]: "NO_BACKEND",
};

interface Translated {
  readonly code: Code;
  readonly message: string;
  readonly info: ErrorInfo;
  readonly retry: RetryInfo | undefined;
}

/**
 * The error as a Connect error with its reason attached. To outside callers only their own mistakes carry text; the mesh
 * (`disclose`) passes every message on.
 */
export function toConnectError(cause: unknown, disclose = false): ConnectError {
  if (cause instanceof ConnectError) return cause;
  const { code, message, info, retry } = translate(cause, disclose);
  const details = [{ desc: ErrorInfoSchema, value: info }, ...(retry ? [{ desc: RetryInfoSchema, value: retry }] : [])];
  return new ConnectError(message, code, undefined, details, cause);
}

/** The error as a gRPC status with its reason attached; for the mesh, so every message is passed on. */
export function toGrpcStatus(cause: unknown): StatusObject {
  const metadata = new Metadata();
  if (cause instanceof ConnectError) return { code: cause.code as number as GrpcStatus, details: cause.rawMessage, metadata };
  const { code, message, info, retry } = translate(cause, true);
  const details = [anyPack(ErrorInfoSchema, info), ...(retry ? [anyPack(RetryInfoSchema, retry)] : [])];
  metadata.set(DETAILS_HEADER, Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code, message, details }))));
  return { code: code as number as GrpcStatus, details: message, metadata };
}

/** The error a gRPC call ended with, in our words. */
export function fromGrpcError(error: ServiceError): SignalboxError {
  const [bytes] = error.metadata?.get(DETAILS_HEADER) ?? [];
  if (bytes instanceof Buffer) {
    try {
      const found = fromBinary(StatusSchema, bytes).details.map(
        (any) => anyUnpack(any, ErrorInfoSchema) ?? anyUnpack(any, RetryInfoSchema),
      );
      const info = found.find((detail) => detail?.$typeName === "google.rpc.ErrorInfo");
      const retry = found.find((detail) => detail?.$typeName === "google.rpc.RetryInfo");
      if (info) return fromInfo(info, retry, error.details, error);
    } catch {
      // details of a stranger: the code is what remains
    }
  }
  return fromCode(error.code, error.details, error);
}

/** The error a Connect call ended with, in our words. */
export function fromConnectError(error: ConnectError): SignalboxError {
  const info = error.findDetails(ErrorInfoSchema)[0];
  if (info) return fromInfo(info, error.findDetails(RetryInfoSchema)[0], error.rawMessage, error);
  return fromCode(error.code, error.rawMessage, error);
}

function translate(cause: unknown, disclose: boolean): Translated {
  const error = cause instanceof SignalboxError ? cause : new SignalboxError("INTERNAL", cause instanceof Error ? cause.message : "failed");
  const { reason, row } = error;
  const tells = disclose || error.httpStatus < 500;
  const retryMs = error.retryAfterMs;
  return {
    code: CODE_OF_GRPC[row.grpc],
    message: tells ? error.message : error.code,
    info: create(ErrorInfoSchema, {
      reason,
      domain: ERROR_DOMAIN,
      metadata: { code: error.code, ...(error.param === undefined ? {} : { param: error.param }) },
    }),
    retry:
      retryMs === undefined
        ? undefined
        : create(RetryInfoSchema, {
            retryDelay: { seconds: BigInt(Math.floor(retryMs / 1000)), nanos: Math.round((retryMs % 1000) * 1e6) },
          }),
  };
}

function fromInfo(info: ErrorInfo, retry: RetryInfo | undefined, message: string, cause: Error): SignalboxError {
  const { code, param } = info.metadata;
  const delay = retry?.retryDelay;
  const detail: ErrorDetail = {
    cause,
    ...(code === undefined ? {} : { code }),
    ...(param === undefined ? {} : { param }),
    ...(delay ? { retryAfterMs: Number(delay.seconds) * 1000 + delay.nanos / 1e6 } : {}),
  };
  return new SignalboxError(isReason(info.reason) ? info.reason : "INTERNAL", message, detail);
}

function fromCode(code: number, message: string, cause: Error): SignalboxError {
  return new SignalboxError(REASON_OF_CODE[code] ?? "INTERNAL", message, { cause });
}

const CODE_OF_GRPC = {
  INVALID_ARGUMENT: Code.InvalidArgument,
  UNAUTHENTICATED: Code.Unauthenticated,
  PERMISSION_DENIED: Code.PermissionDenied,
  NOT_FOUND: Code.NotFound,
  RESOURCE_EXHAUSTED: Code.ResourceExhausted,
  UNAVAILABLE: Code.Unavailable,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  CANCELLED: Code.Canceled,
  INTERNAL: Code.Internal,
  FAILED_PRECONDITION: Code.FailedPrecondition,
  ABORTED: Code.Aborted,
  ALREADY_EXISTS: Code.AlreadyExists,
} as const;
