import type { AttemptData, AttemptEnd, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";

export type { AttemptData, AttemptEnd, AttemptOpen };

/** Bytes an attempt may deliver before the consumer grants more. Also the first grant. */
export const ATTEMPT_WINDOW_BYTES = 256 * 1024;

/** Receives one attempt. Callbacks, because a promise per chunk is what makes gateways slow. */
export interface AttemptSink {
  /** Bytes for the client, in order. Never called after `end`, nor before `attempt()` has returned. */
  data(data: AttemptData): void;
  /** Exactly once, whatever happens. Never before `attempt()` has returned. */
  end(end: AttemptEnd): void;
}

/** Why an attempt is cancelled. */
export type CancelReason = "canceled" | "deadline" | "hedge_lost";

/** Control of one attempt. */
export interface AttemptHandle {
  /** `bytes` of delivered data were taken off the consumer's hands; the window opens by that much. At zero window the adapter pauses that upstream socket only. */
  consumed(bytes: number): void;
  /** Ends the upstream call now; `end` still follows, with outcome CANCELED, DEADLINE or HEDGE_LOST and what is known of usage. */
  cancel(reason: CancelReason): void;
  /** Replica serving the attempt, for logs; empty when unknown. */
  readonly replica: string;
}

/** The provider adapters, near or far: one interface over all replicas. */
export interface AdapterPeer {
  /** Starts one attempt. Failures arrive at `sink.end`, never as a throw. */
  attempt(open: AttemptOpen, sink: AttemptSink): AttemptHandle;
  /** Whether some replica serves `backend` and is not leaving. */
  serves(backend: string): boolean;
}

/** Adapters as their own process sees them: what `libs/rpc` serves and announces. */
export interface AdapterHost extends AdapterPeer {
  readonly replica: string;
  /** Backends this replica serves now. */
  backends(): readonly string[];
  inFlight(): number;
  readonly draining: boolean;
  /** Calls `listener` whenever backends or draining change. */
  onChange(listener: () => void): void;
}
