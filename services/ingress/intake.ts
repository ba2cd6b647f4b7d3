import type { DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { TraceContext } from "#libs/telemetry/index.ts";
import type { Internal } from "./internal.ts";
import type { PromptSize } from "./tokens.ts";

/** A request that was read, allowed and analysed: all that dispatch needs to know of it. */
export interface Intake {
  readonly requestId: string;
  /** Features, decision id included; holds the caller's tenant, team and key id. */
  readonly decide: DecideRequest;
  readonly size: PromptSize;
  /** Body as the client sent it. Released when no further attempt can need it. */
  body: Uint8Array;
  /** Extents of the body's members for the adapter; empty = unknown. */
  readonly fields: number[];
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Answers asked for at once, `n`; each may come to the whole limit of output. */
  readonly choices: number;
  /** Whether another backend could go on with a broken answer, as far as the request tells. */
  readonly resumable: boolean;
  /** Whether identical requests may share one answer: deterministic, and of a model that allows it. */
  readonly shareable: boolean;
  /** Set where the gateway asks by itself; undefined = a client's. */
  readonly internal?: Internal;
  readonly trace: TraceContext;
  /** Span of the whole request. */
  readonly rootSpanId: string;
  /** Wall clock at the request's arrival, ms since the epoch. */
  readonly startedAtMs: number;
  /** Monotonic clock at the same moment. */
  readonly startedMs: number;
}
