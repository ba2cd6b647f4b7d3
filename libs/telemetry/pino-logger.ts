import pino from "pino";
import type { LogFields, Logger } from "./logger.ts";

/** Fields that must never reach a log line, even by mistake, at the top or one level down: the second fence behind `Secret`. */
const NEVER_LOGGED: ReadonlySet<string> = new Set([
  "authorization", "x-api-key", "api-key", "key", "apiKey", "messages", "prompt", "completion",
]); // prettier-ignore

const CENSOR = "[redacted]";

/** Log lines as JSON on standard error, in blocks of up to 4 KiB, written at least every 250 ms and at exit. */
export interface ProcessLogger extends Logger {
  /** Writes what is buffered. */
  flush(): void;
}

class PinoLogger implements Logger {
  readonly #pino: pino.Logger;

  constructor(logger: pino.Logger) {
    this.#pino = logger;
  }

  get debugEnabled(): boolean {
    return this.#pino.isLevelEnabled("debug");
  }

  debug(fields: LogFields, message: string): void {
    this.#pino.debug(fields, message);
  }

  info(fields: LogFields, message: string): void {
    this.#pino.info(fields, message);
  }

  warn(fields: LogFields, message: string): void {
    this.#pino.warn(fields, message);
  }

  error(fields: LogFields, message: string): void {
    this.#pino.error(fields, message);
  }

  child(fields: LogFields): Logger {
    return new PinoLogger(this.#pino.child(fields));
  }
}

/** Bytes buffered before a write; a line is about 400 bytes. */
const BLOCK_BYTES = 4096;

/** Opens the process's logger. `level`: silent, error, warn, info or debug. `fd` 2 is standard error. */
export function createLogger(level: string, service: string, fd = 2): ProcessLogger {
  const destination = pino.destination({ fd, minLength: BLOCK_BYTES, sync: false, periodicFlush: 250 });
  destination.on("error", () => {});
  const logger = pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      // A line that needs no censoring, every line we know of, is looked through and not copied.
      formatters: { level: (label) => ({ level: label }), log: (fields) => censored(fields, 1) },
      serializers: { error: pino.stdSerializers.err },
    },
    destination,
  );
  return Object.assign(new PinoLogger(logger), {
    flush: () => {
      try {
        destination.flushSync();
      } catch {
        // The stream is not open yet or already gone: there is nothing to keep.
      }
    },
  });
}

function censored(fields: Record<string, unknown>, levels: number): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined;
  for (const name of Object.keys(fields)) {
    const value = fields[name];
    let kept = value;
    if (NEVER_LOGGED.has(name)) kept = value === undefined ? undefined : CENSOR;
    else if (levels > 0 && isPlain(value)) kept = censored(value, levels - 1);
    if (kept !== value) (copy ??= { ...fields })[name] = kept;
  }
  return copy ?? fields;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Error);
}
