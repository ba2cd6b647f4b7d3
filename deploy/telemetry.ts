import { SpanKind, SpanStatusCode, TraceFlags, type Attributes, type HrTime, type SpanContext } from "@opentelemetry/api";
import { resourceFromAttributes, type Resource } from "@opentelemetry/resources";
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter } from "@opentelemetry/sdk-trace";
import type { Clock, Random } from "#libs/clock/index.ts";
import { createIdSource, startContext, type SpanRecord, type TraceContext, type Tracing } from "#libs/telemetry/index.ts";

/** Spans waiting for export; about 32 MiB at 1 KiB each, then the processor drops and counts. */
const QUEUE_SPANS = 16_384;

/** Spans per export call. */
const BATCH_SPANS = 512;

/** A collector that does not answer within this is given up for the batch. */
const EXPORT_TIMEOUT_MS = 5_000;

/** An exit never waits longer than this for the collector. */
const SHUTDOWN_MS = 2_000;

const KINDS: Readonly<Record<SpanRecord["kind"], SpanKind>> = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
};

/** Tracing that exports, and how to end it. */
export interface ProcessTracing extends Tracing {
  /** Exports what is queued, for 2 s at most. */
  close(): Promise<void>;
}

/** What tracing needs from the outside. */
export interface TracingOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Share of new traces kept, 0..1; asked at every request so that a reload takes effect. */
  readonly share: () => number;
  readonly serviceName: string;
  /** Environment: the standard OTEL_* variables decide whether and where spans go. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Tracing by the standard OTEL_* variables. Without an endpoint nothing is exported, but contexts are still drawn and passed on. */
export async function createTracing(options: TracingOptions): Promise<ProcessTracing> {
  const draw = createIdSource(options.random);
  const exporter = await createExporter(options.env);
  const resource = resourceFromAttributes({
    "service.name": options.env["OTEL_SERVICE_NAME"] ?? options.serviceName,
    ...resourceAttributes(options.env),
  });
  const processor = exporter
    ? new BatchSpanProcessor({
        exporter,
        maxQueueSize: QUEUE_SPANS,
        maxExportBatchSize: BATCH_SPANS,
        scheduledDelayMillis: 1_000,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
      })
    : undefined;
  return {
    enabled: processor !== undefined,
    start: (traceparent, tracestate) => startContext(traceparent, tracestate, draw, options.share()),
    spanId: () => draw(8),
    traceparent: (context, spanId) => `00-${context.traceId}-${spanId}-${context.sampled ? "01" : "00"}`,
    emit: (context, spans) => {
      if (processor) for (const span of spans) processor.onEnd(readableSpan(context, span, resource));
    },
    close: async () => {
      if (!processor) return;
      const gone = new Promise<void>((resolve) => void options.clock.after(SHUTDOWN_MS, resolve));
      await Promise.race([processor.shutdown().catch(() => {}), gone]);
    },
  };
}

/** The exporter the environment asks for, loaded only then: OTLP over http/protobuf by default. */
async function createExporter(env: TracingOptions["env"]): Promise<SpanExporter | undefined> {
  const endpoint = env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] ?? env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  if (!endpoint || env["OTEL_SDK_DISABLED"] === "true" || env["OTEL_TRACES_EXPORTER"] === "none") return undefined;
  const protocol = env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] ?? env["OTEL_EXPORTER_OTLP_PROTOCOL"] ?? "http/protobuf";
  switch (protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-trace-otlp-grpc")).OTLPTraceExporter();
    case "http/json":
      return new (await import("@opentelemetry/exporter-trace-otlp-http")).OTLPTraceExporter();
    default:
      return new (await import("@opentelemetry/exporter-trace-otlp-proto")).OTLPTraceExporter();
  }
}

/** OTEL_RESOURCE_ATTRIBUTES: comma-separated key=value, percent-encoded. */
function resourceAttributes(env: TracingOptions["env"]): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const pair of (env["OTEL_RESOURCE_ATTRIBUTES"] ?? "").split(",")) {
    const at = pair.indexOf("=");
    if (at > 0) attributes[pair.slice(0, at).trim()] = decodeURIComponent(pair.slice(at + 1).trim());
  }
  return attributes;
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}

function readableSpan(context: TraceContext, span: SpanRecord, resource: Resource): ReadableSpan {
  const contextOf = (spanId: string): SpanContext => ({ traceId: context.traceId, spanId, traceFlags: TraceFlags.SAMPLED });
  const own = contextOf(span.spanId);
  return {
    name: span.name,
    kind: KINDS[span.kind],
    spanContext: () => own,
    ...(span.parentSpanId === "" ? {} : { parentSpanContext: contextOf(span.parentSpanId) }),
    startTime: hrTime(span.startMs),
    endTime: hrTime(span.endMs),
    duration: hrTime(Math.max(0, span.endMs - span.startMs)),
    status: span.error === undefined ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR, message: span.error },
    attributes: span.attributes as Attributes,
    events: span.events.map((event) => ({
      name: event.name,
      time: hrTime(event.atMs),
      attributes: event.attributes as Attributes,
      droppedAttributesCount: 0,
    })),
    links: [],
    ended: true,
    resource,
    instrumentationScope: { name: "signalbox" },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}
