/** Fields of a log line. Never prompts, completions or keys. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured logs. The message is a constant; what varies is in the fields. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** Whether debug lines are written: guard anything costly with it. */
  readonly debugEnabled: boolean;
  child(fields: LogFields): Logger;
}

/** Says nothing; for tests. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  debugEnabled: false,
  child: () => silentLogger,
};
