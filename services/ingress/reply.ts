import type { SignalboxError } from "#libs/errors/index.ts";

/** What the caller may learn about the routing of its request. */
export interface ReplyFacts {
  readonly requestId: string;
  /** Empty before the decision. */
  readonly decisionId: string;
  /** Backend that answers, or was tried last; empty = none. */
  readonly backend: string;
  /** Resolved model; empty before the decision. */
  readonly model: string;
  readonly attempts: number;
  /** `name=arm`; empty = none. */
  readonly experiment: string;
  readonly queueMs: number;
  /** Time of the gateway's own work up to the first dispatch, without the queue, ms. */
  readonly routeMs: number;
  /** From dispatch to first content of the answering attempt, ms; 0 = none. */
  readonly upstreamMs: number;
  readonly warnings: readonly string[];
  /** All attempts together; undefined while it is not known. */
  readonly costNanoUsd: bigint | undefined;
}

/**
 * Where an answer goes: an HTTP response, or a typed caller in this process. Either `whole`, or `open`, any number of
 * `write` and `finish`; `fail` at any point; nothing after that. Dispatch calls it, the dialect shapes it.
 */
export interface Reply {
  /** Begins a stream: status and headers go out. */
  open(facts: ReplyFacts): void;
  /** Whole events. False = hold back until the exchange is told that the reader has `drained`. */
  write(bytes: Uint8Array): boolean;
  /** A comment that says: still here. */
  keepAlive(): void;
  /** Ends a stream in good order; the usage event only where the client asked for one. */
  finish(facts: ReplyFacts, usageEvent: Uint8Array | undefined): void;
  /** A whole answer, in pieces. */
  whole(facts: ReplyFacts, pieces: readonly Uint8Array[]): void;
  /** An error: a response of its own, or the last event of a stream that is open. */
  fail(error: SignalboxError, facts: ReplyFacts): void;
  /** Lets a reader go that takes nothing. */
  drop(): void;
  /** Bytes accepted and not yet taken by the reader, as far as known. */
  pendingBytes(): number;
}
