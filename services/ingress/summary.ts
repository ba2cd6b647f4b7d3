import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import type { Attempt } from "./attempt.ts";
import type { Intake } from "./intake.ts";

/** A request that is over, as telemetry sees it. Times are monotonic ms. */
export interface RequestSummary {
  readonly intake: Intake;
  /** The first decision; undefined when none was reached. */
  readonly decision: Decision | undefined;
  readonly attempts: readonly Attempt[];
  /** The attempt that answered. */
  readonly winner: Attempt | undefined;
  readonly redecisions: readonly { readonly atMs: number; readonly exclude: readonly string[] }[];
  /** HTTP status of the outcome; 499 when the client went away. */
  readonly status: number;
  readonly error: SignalboxError | undefined;
  readonly decideStartMs: number;
  readonly decideEndMs: number;
  /** First content byte handed to the client; 0 = none. */
  readonly firstByteMs: number;
  readonly endMs: number;
  readonly costNanoUsd: bigint;
}

/** Takes finished requests: metrics, log, trace. */
export interface Recorder {
  /** A request entered dispatch. */
  began(): void;
  /** A request is over and all its attempts have ended. */
  finished(summary: RequestSummary): void;
}
