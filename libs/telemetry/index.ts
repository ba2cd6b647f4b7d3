export { type CellMetrics, createMetrics } from "./cells.ts";
export { type LogFields, type Logger, silentLogger } from "./logger.ts";
export type { Counter, Family, Gauge, Histogram, Metrics } from "./metrics.ts";
export { createLogger, type ProcessLogger } from "./pino-logger.ts";
export { type AttributeValue, noTracing, type SpanEvent, type SpanRecord, type TraceContext, type Tracing } from "./tracing.ts";
export { createIdSource, startContext } from "./w3c.ts";
