export { type LogFields, type Logger, silentLogger } from "./logger.ts";
export type { Counter, Family, Gauge, Histogram, Metrics } from "./metrics.ts";
export { type AttributeValue, noTracing, type SpanEvent, type SpanRecord, type TraceContext, type Tracing } from "./tracing.ts";
