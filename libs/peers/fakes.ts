import { create } from "@bufbuild/protobuf";
import { AttemptDataSchema, AttemptEndSchema, type AttemptEnd as End } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { DecisionSchema, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import {
  ATTEMPT_WINDOW_BYTES,
  type AdapterHost,
  type AttemptHandle,
  type AttemptOpen,
  type AttemptSink,
  type CancelReason,
} from "./adapter.ts";
import type {
  AttemptReport,
  DecideRequest,
  DecideTicket,
  Decision,
  DecisionRecord,
  PolicyFallback,
  PolicyHost,
  PolicySession,
  Preemption,
} from "./policy.ts";

/** What a fake engine does with a request: answers at once, later, or never. */
export type FakeAnswer = Decision | Promise<Decision>;

/** A policy engine for tests: answers what it is told and remembers what it was told. */
export class FakePolicyHost implements PolicyHost {
  /** Replaced by tests to script answers. */
  answer: (request: DecideRequest) => FakeAnswer = (request) => allow(request.decisionId, "backend-a");
  readonly requests: DecideRequest[] = [];
  readonly reports: AttemptReport[] = [];
  readonly cancelled: string[] = [];
  readonly unheard: string[] = [];
  readonly sessions: { ingressId: string; open: boolean }[] = [];
  record: DecisionRecord | undefined;
  /** Called after each event above. */
  onEvent: () => void = () => {};
  #fallback: PolicyFallback | undefined;
  readonly #fallbackListeners = new Set<(fallback: PolicyFallback) => void>();
  readonly #preemptionListeners = new Set<(preemption: Preemption) => void>();
  readonly #drainListeners: (() => void)[] = [];

  openSession(ingressId: string): PolicySession {
    const entry = { ingressId, open: true };
    this.sessions.push(entry);
    this.onEvent();
    const listeners = new Set<(fallback: PolicyFallback) => void>();
    const current = (): PolicyFallback | undefined => this.#fallback;
    return {
      decide: (request) => this.#decide(request),
      unheard: (id) => void this.unheard.push(id),
      report: (report) => {
        this.reports.push(report);
        this.onEvent();
      },
      get fallback() {
        return current();
      },
      connected: true,
      onPreemption: (listener) => void this.#preemptionListeners.add(listener),
      onFallback: (listener) => {
        listeners.add(listener);
        this.#fallbackListeners.add(listener);
        if (this.#fallback) listener(this.#fallback);
      },
      close: () => {
        if (!entry.open) return;
        entry.open = false;
        for (const listener of listeners) this.#fallbackListeners.delete(listener);
        this.onEvent();
      },
    };
  }

  /** Pushes a fallback to every session. */
  push(fallback: PolicyFallback): void {
    this.#fallback = fallback;
    for (const listener of this.#fallbackListeners) listener(fallback);
  }

  /** Asks every session to have an attempt yield. */
  preempt(decisionId: string, attemptId: string): void {
    for (const listener of this.#preemptionListeners) listener({ $typeName: "signalbox.policy.v1.Preemption", decisionId, attemptId });
  }

  drain(): void {
    for (const listener of this.#drainListeners) listener();
  }

  onDraining(listener: () => void): void {
    this.#drainListeners.push(listener);
  }

  explain(): Promise<DecisionRecord | undefined> {
    return Promise.resolve(this.record);
  }

  #decide(request: DecideRequest): DecideTicket {
    this.requests.push(request);
    const decision = this.answer(request);
    this.onEvent();
    return {
      decision,
      cancel: () => {
        this.cancelled.push(request.decisionId);
        this.onEvent();
      },
    };
  }
}

/** A decision that allows `backends`, best first. */
export function allow(decisionId: string, ...backends: string[]): Decision {
  return create(DecisionSchema, { decisionId, result: { case: "allow", value: { candidates: backends.map((backend) => ({ backend })) } } });
}

/** One attempt at the fake adapter, driven by the test. */
export class FakeAttempt implements AttemptHandle {
  readonly replica: string;
  readonly open: AttemptOpen;
  cancelled: CancelReason | undefined;
  /** Bytes sent and not yet consumed. */
  outstanding = 0;
  ended = false;
  onEvent: () => void = () => {};
  readonly #sink: AttemptSink;
  readonly #onEnd: () => void;

  constructor(replica: string, open: AttemptOpen, sink: AttemptSink, onEnd: () => void) {
    this.replica = replica;
    this.open = open;
    this.#sink = sink;
    this.#onEnd = onEnd;
  }

  /** Delivers content; false when the window is used up, as a real adapter would pause its upstream. */
  send(data: Uint8Array): boolean {
    if (this.ended || this.outstanding >= ATTEMPT_WINDOW_BYTES) return false;
    this.outstanding += data.length;
    this.#sink.data(create(AttemptDataSchema, { data, content: true, contentEvents: 1 }));
    return true;
  }

  finish(end: Partial<Omit<End, "$typeName">> = {}): void {
    if (this.ended) return;
    this.ended = true;
    this.#onEnd();
    this.#sink.end(create(AttemptEndSchema, { outcome: Outcome.OK, dispatched: true, ...end } as never));
  }

  consumed(bytes: number): void {
    this.outstanding -= bytes;
    this.onEvent();
  }

  cancel(reason: CancelReason): void {
    if (this.ended || this.cancelled) return;
    this.cancelled = reason;
    queueMicrotask(() => this.finish({ outcome: OUTCOME_OF[reason] }));
    this.onEvent();
  }
}

const OUTCOME_OF: Readonly<Record<CancelReason, Outcome>> = {
  canceled: Outcome.CANCELED,
  deadline: Outcome.DEADLINE,
  hedge_lost: Outcome.HEDGE_LOST,
};

/** Provider adapters for tests: every attempt lands in `attempts` and does what the test says. */
export class FakeAdapterHost implements AdapterHost {
  readonly replica: string;
  readonly attempts: FakeAttempt[] = [];
  served: readonly string[] = ["backend-a"];
  draining = false;
  /** Called, a microtask later, with each new attempt. */
  onAttempt: (attempt: FakeAttempt) => void = () => {};
  readonly #listeners: (() => void)[] = [];
  #inFlight = 0;

  constructor(replica = "replica-1") {
    this.replica = replica;
  }

  attempt(open: AttemptOpen, sink: AttemptSink): AttemptHandle {
    this.#inFlight++;
    const attempt = new FakeAttempt(this.replica, open, sink, () => this.#inFlight--);
    this.attempts.push(attempt);
    queueMicrotask(() => this.onAttempt(attempt));
    return attempt;
  }

  serves(backend: string): boolean {
    return !this.draining && this.served.includes(backend);
  }

  backends(): readonly string[] {
    return this.served;
  }

  inFlight(): number {
    return this.#inFlight;
  }

  drain(): void {
    this.draining = true;
    for (const listener of this.#listeners) listener();
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
