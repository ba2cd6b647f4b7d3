/** Where one reason leads: gRPC status code name, HTTP status, OpenAI error type and code, and whether the client may retry. */
export interface ReasonRow {
  readonly grpc:
    | "INVALID_ARGUMENT"
    | "UNAUTHENTICATED"
    | "PERMISSION_DENIED"
    | "NOT_FOUND"
    | "RESOURCE_EXHAUSTED"
    | "UNAVAILABLE"
    | "DEADLINE_EXCEEDED"
    | "CANCELLED"
    | "INTERNAL"
    | "FAILED_PRECONDITION"
    | "ABORTED"
    | "ALREADY_EXISTS";
  readonly http: number;
  readonly type: string;
  readonly code: string;
  /** Value of x-should-retry. */
  readonly retry: boolean;
  /** Whether dispatch may try the next candidate (before the first content byte). */
  readonly failover: boolean;
}

/** The closed table of reasons (house rules, section 5). Everything that can go wrong has exactly one row here. */
export const REASONS = {
  REQUEST_MALFORMED: {
    grpc: "INVALID_ARGUMENT",
    http: 400,
    type: "invalid_request_error",
    code: "invalid_value",
    retry: false,
    failover: false,
  },
  FEATURE_UNSUPPORTED: {
    grpc: "INVALID_ARGUMENT",
    http: 400,
    type: "invalid_request_error",
    code: "unsupported_parameter",
    retry: false,
    failover: false,
  },
  REQUEST_TOO_LARGE: {
    grpc: "RESOURCE_EXHAUSTED",
    http: 413,
    type: "invalid_request_error",
    code: "request_too_large",
    retry: false,
    failover: false,
  },
  METHOD_NOT_ALLOWED: {
    grpc: "INVALID_ARGUMENT",
    http: 405,
    type: "invalid_request_error",
    code: "method_not_allowed",
    retry: false,
    failover: false,
  },
  ROUTE_UNKNOWN: { grpc: "NOT_FOUND", http: 404, type: "invalid_request_error", code: "unknown_url", retry: false, failover: false },
  ENCODING_UNSUPPORTED: {
    grpc: "INVALID_ARGUMENT",
    http: 415,
    type: "invalid_request_error",
    code: "unsupported_encoding",
    retry: false,
    failover: false,
  },
  HEADERS_TOO_LARGE: {
    grpc: "INVALID_ARGUMENT",
    http: 431,
    type: "invalid_request_error",
    code: "headers_too_large",
    retry: false,
    failover: false,
  },
  REQUEST_TIMEOUT: {
    grpc: "DEADLINE_EXCEEDED",
    http: 408,
    type: "invalid_request_error",
    code: "request_timeout",
    retry: true,
    failover: false,
  },
  UNAUTHENTICATED: {
    grpc: "UNAUTHENTICATED",
    http: 401,
    type: "invalid_request_error",
    code: "invalid_api_key",
    retry: false,
    failover: false,
  },
  POLICY_DENIED: {
    grpc: "PERMISSION_DENIED",
    http: 403,
    type: "permission_error",
    code: "model_not_allowed",
    retry: false,
    failover: false,
  },
  MODEL_UNKNOWN: { grpc: "NOT_FOUND", http: 404, type: "invalid_request_error", code: "model_not_found", retry: false, failover: false },
  NO_CAPABLE_BACKEND: {
    grpc: "INVALID_ARGUMENT",
    http: 400,
    type: "invalid_request_error",
    code: "no_capable_backend",
    retry: false,
    failover: false,
  },
  IDEMPOTENCY: {
    grpc: "ALREADY_EXISTS",
    http: 400,
    type: "invalid_request_error",
    code: "idempotency_mismatch",
    retry: false,
    failover: false,
  },
  RATE_LIMITED: {
    grpc: "RESOURCE_EXHAUSTED",
    http: 429,
    type: "rate_limit_error",
    code: "rate_limit_exceeded",
    retry: true,
    failover: false,
  },
  QUEUE_FULL: { grpc: "RESOURCE_EXHAUSTED", http: 429, type: "rate_limit_error", code: "queue_full", retry: true, failover: false },
  BUDGET_EXHAUSTED: {
    grpc: "RESOURCE_EXHAUSTED",
    http: 429,
    type: "insufficient_quota",
    code: "budget_exceeded",
    retry: false,
    failover: false,
  },
  NO_BACKEND: { grpc: "UNAVAILABLE", http: 503, type: "server_error", code: "no_backend_available", retry: true, failover: false },
  SHUTTING_DOWN: { grpc: "UNAVAILABLE", http: 503, type: "server_error", code: "server_shutting_down", retry: true, failover: false },
  KEY_STORE_UNAVAILABLE: {
    grpc: "UNAVAILABLE",
    http: 503,
    type: "server_error",
    code: "key_store_unavailable",
    retry: true,
    failover: false,
  },
  DEADLINE_EXCEEDED: {
    grpc: "DEADLINE_EXCEEDED",
    http: 504,
    type: "timeout_error",
    code: "deadline_exceeded",
    retry: false,
    failover: false,
  },
  CANCELED: { grpc: "CANCELLED", http: 499, type: "invalid_request_error", code: "client_closed_request", retry: false, failover: false },
  LOOP: { grpc: "FAILED_PRECONDITION", http: 508, type: "server_error", code: "loop_detected", retry: false, failover: false },
  UPSTREAM_UNAVAILABLE: { grpc: "UNAVAILABLE", http: 502, type: "server_error", code: "upstream_error", retry: false, failover: true },
  UPSTREAM_TIMEOUT: { grpc: "DEADLINE_EXCEEDED", http: 502, type: "server_error", code: "upstream_error", retry: false, failover: true },
  UPSTREAM_PROTOCOL: { grpc: "INTERNAL", http: 502, type: "server_error", code: "upstream_invalid", retry: false, failover: true },
  UPSTREAM_UNAUTHORIZED: { grpc: "UNAVAILABLE", http: 502, type: "server_error", code: "upstream_error", retry: false, failover: true },
  UPSTREAM_RATE_LIMITED: {
    grpc: "UNAVAILABLE",
    http: 429,
    type: "rate_limit_error",
    code: "upstream_rate_limited",
    retry: true,
    failover: true,
  },
  UPSTREAM_REJECTED: {
    grpc: "FAILED_PRECONDITION",
    http: 400,
    type: "invalid_request_error",
    code: "invalid_value",
    retry: false,
    failover: false,
  },
  STREAM_INTERRUPTED: { grpc: "ABORTED", http: 502, type: "server_error", code: "stream_interrupted", retry: false, failover: false },
  INTERNAL: { grpc: "INTERNAL", http: 500, type: "server_error", code: "internal_error", retry: false, failover: false },
} as const satisfies Record<string, ReasonRow>;

/** One name from the closed table. */
export type Reason = keyof typeof REASONS;

/** Whether `value` names a row of the table. */
export function isReason(value: string): value is Reason {
  return Object.hasOwn(REASONS, value);
}
