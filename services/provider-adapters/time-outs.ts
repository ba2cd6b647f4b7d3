import type { AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";

/** Where an attempt stands, times monotonic in ms. */
export interface Progress {
  readonly startMs: number;
  /** Time since then in which this process stood still, ms: only the deadline, which is the caller's, counts it. */
  readonly excusedMs: number;
  readonly heardMs: number;
  /** The request is on a connection. */
  readonly sent: boolean;
  /** Status and headers arrived. */
  readonly answering: boolean;
  /** Content was delivered: for a whole body that is its end, so that one which drips in falls under the same ceiling. */
  readonly first: boolean;
}

/** Which ceiling was passed. */
export type TimeOut = "deadline" | "connect" | "first_token" | "idle";

/** The first ceiling of `open` that `nowMs` is beyond, or undefined. A ceiling of 0 is none. */
export function timeOutOf(open: AttemptOpen, progress: Progress, nowMs: number): TimeOut | undefined {
  const ageMs = nowMs - progress.startMs;
  if (passed(open.deadlineMs, ageMs)) return "deadline";
  const waitedMs = ageMs - progress.excusedMs;
  if (!progress.sent && passed(open.connectTimeoutMs, waitedMs)) return "connect";
  if (!progress.first && passed(open.firstTokenTimeoutMs, waitedMs)) return "first_token";
  if (progress.answering && passed(open.idleTimeoutMs, nowMs - progress.heardMs)) return "idle";
  return undefined;
}

function passed(ceilingMs: number, ms: number): boolean {
  return ceilingMs > 0 && ms >= ceilingMs;
}

/** For the log. */
export const TIME_OUT_MESSAGE: Readonly<Record<TimeOut, string>> = {
  deadline: "The deadline passed.",
  connect: "The provider did not accept a connection in time.",
  first_token: "The provider sent no content in time.",
  idle: "The provider fell silent.",
};
