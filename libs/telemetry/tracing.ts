/** Trace context of one request, validated. */
export interface TraceContext {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string;
  /** Span id of the caller (16 hex digits), or empty for a root. */
  readonly parentSpanId: string;
  /** tracestate to pass on, validated; empty = none. */
  readonly tracestate: string;
  /** Whether the caller or the sampler wants it recorded. */
  readonly sampled: boolean;
}

/** Attribute values OTel knows. */
export type AttributeValue = string | number | boolean | readonly string[];

/** An event on a span. */
export interface SpanEvent {
  readonly name: string;
  /** Wall clock, ms since the epoch, fractions kept. */
  readonly atMs: number;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/** A finished span, made at the request's end from recorded timings. */
export interface SpanRecord {
  readonly name: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly kind: "internal" | "server" | "client";
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  readonly events: readonly SpanEvent[];
  /** Set when the span failed: the description. */
  readonly error?: string;
}

/** Makes traces. Spans are built only after the decision to keep them. */
export interface Tracing {
  /**
   * Context of a request from its W3C headers, each as all values received. Illegal ones are ignored as the specification
   * says: a bad or duplicate traceparent starts a new trace, a bad tracestate is dropped.
   */
  start(traceparent: readonly string[], tracestate: readonly string[]): TraceContext;
  /** A new span id, 16 hex digits. */
  spanId(): string;
  /** traceparent header value for a child of `spanId`. */
  traceparent(context: TraceContext, spanId: string): string;
  /** Hands finished spans of one trace to the exporter. Bounded; drops and counts beyond. */
  emit(context: TraceContext, spans: readonly SpanRecord[]): void;
  /** Whether anything is exported at all; when not, skip building spans. */
  readonly enabled: boolean;
}

/** Keeps nothing; contexts are still drawn, so that traceparent goes upstream. */
export const noTracing: Tracing = {
  start: () => ({ traceId: "0af7651916cd43dd8448eb211c80319c", parentSpanId: "", tracestate: "", sampled: false }),
  spanId: () => "b7ad6b7169203331",
  traceparent: (context, spanId) => `00-${context.traceId}-${spanId}-${context.sampled ? "01" : "00"}`,
  emit: () => {},
  enabled: false,
};
