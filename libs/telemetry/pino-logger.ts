import pino from "pino";
import type { LogFields, Logger } from "./logger.ts";

/** Paths that must never reach a log line, even by mistake: the second fence behind `Secret`. */
const REDACTED_PATHS = [
  "authorization", "headers.authorization", 'headers["x-api-key"]', 'headers["api-key"]', "key", "*.key", "apiKey", "*.apiKey",
  "messages", "*.messages", "prompt", "*.prompt", "completion", "*.completion",
]; // prettier-ignore

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
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED_PATHS, censor: "[redacted]" },
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
