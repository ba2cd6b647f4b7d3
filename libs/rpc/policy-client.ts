import { SessionRequestFrameSchema, SessionResponseFrameSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { SessionRequestFrame, SessionResponseFrame } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Clock, Random } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { AttemptReport, DecideRequest, DecideTicket, Decision, PolicyFallback, PolicySession, Preemption } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { AddressBook } from "./addresses.ts";
import { codecOf } from "#libs/wire/index.ts";
import { StreamLink } from "./stream-link.ts";
import { TimeoutQueue } from "./timeout-queue.ts";
import { type MeshTls, SESSION_PATH } from "./wire.ts";

/** How often a request is given the same time again because its engine is answering others meanwhile: busy, not gone. */
const EXTENSIONS_MAX = 3;

/** Decisions whose engine is remembered for reports: at most two generations of this many; older ones' reports are dropped. */
const DECIDED_MAX = 65_536;

/** What a far policy client needs. */
export interface PolicyClientDeps {
  /** host:port or dns:///name:port. */
  readonly addresses: readonly string[];
  /** Names this process at the engines. */
  readonly ingressId: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tls?: MeshTls | undefined;
  /** Time for an engine to answer or to say that the request waits, ms. Then the caller uses its fallback. */
  readonly answerTimeoutMs: number;
}

interface Pending {
  settled: boolean;
  extensions: number;
  readonly id: string;
  readonly engine: Engine;
  readonly resolve: (decision: Decision) => void;
  readonly reject: (cause: SignalboxError) => void;
}

interface Engine {
  readonly link: StreamLink<SessionRequestFrame, SessionResponseFrame>;
  readonly pending: Map<string, Pending>;
  draining: boolean;
  /** Monotonic ms of its last frame. */
  heardAtMs: number;
}

const outgoing = codecOf(SessionRequestFrameSchema);
const incoming = codecOf(SessionResponseFrameSchema);

/** The policy engines of other processes behind the interface of a near one: a session stream to each, requests shared in turn. */
export function createPolicyClient(deps: PolicyClientDeps): PolicySession {
  return new PolicyClient(deps);
}

class PolicyClient implements PolicySession {
  fallback: PolicyFallback | undefined;
  readonly #deps: PolicyClientDeps;
  readonly #engines = new Map<string, Engine>();
  /** Two generations, so that forgetting the oldest is free. */
  #decided = new Map<string, Engine>();
  #decidedBefore = new Map<string, Engine>();
  readonly #listeners: ((fallback: PolicyFallback) => void)[] = [];
  readonly #preemptionListeners: ((preemption: Preemption) => void)[] = [];
  readonly #answerTimeoutMs: number;
  readonly #timeouts: TimeoutQueue<Pending>;
  readonly #book: AddressBook;
  #usable: readonly Engine[] = [];
  #turn = 0;

  constructor(deps: PolicyClientDeps) {
    this.#deps = deps;
    this.#answerTimeoutMs = deps.answerTimeoutMs;
    this.#timeouts = new TimeoutQueue(deps.clock, this.#answerTimeoutMs, (pending) => this.#timedOut(pending));
    this.#book = new AddressBook(deps.addresses, deps.clock, (addresses) => this.#follow(addresses));
  }

  get connected(): boolean {
    return this.#usable.length > 0;
  }

  decide(request: DecideRequest): DecideTicket {
    const engine = this.#engineFor(request.decisionId);
    if (!engine) return { decision: rejected(unavailable("no policy engine is connected")), cancel: () => {} };
    let pending: Pending | undefined;
    const decision = new Promise<Decision>((resolve, reject) => {
      pending = { settled: false, extensions: 0, id: request.decisionId, engine, resolve, reject };
    });
    // the caller may have gone by the time it is rejected
    decision.catch(() => {});
    engine.pending.set(request.decisionId, pending!);
    this.#timeouts.push(pending!);
    send(engine, { case: "decide", value: request }, request.prefixHashes.length);
    return { decision, cancel: () => this.#cancel(pending!) };
  }

  report(report: AttemptReport): void {
    const engine = this.#deciderOf(report.decisionId);
    if (!engine) return;
    if (report.event.case === "requestDone" && !this.#decided.delete(report.decisionId)) this.#decidedBefore.delete(report.decisionId);
    send(engine, { case: "report", value: report });
  }

  onFallback(listener: (fallback: PolicyFallback) => void): void {
    this.#listeners.push(listener);
    if (this.fallback) listener(this.fallback);
  }

  onPreemption(listener: (preemption: Preemption) => void): void {
    this.#preemptionListeners.push(listener);
  }

  close(): void {
    this.#book.close();
    this.#timeouts.close();
    for (const engine of this.#engines.values()) {
      engine.link.close();
      this.#rejectAll(engine, "closed");
    }
    this.#engines.clear();
    this.#decided.clear();
    this.#decidedBefore.clear();
    this.#usable = [];
  }

  #follow(addresses: readonly string[]): void {
    for (const [address, engine] of this.#engines) {
      if (addresses.includes(address)) continue;
      this.#engines.delete(address);
      engine.link.close();
      this.#rejectAll(engine, "the engine's address is gone");
    }
    for (const address of addresses) if (!this.#engines.has(address)) this.#engines.set(address, this.#engineAt(address));
    this.#refresh();
  }

  #engineAt(address: string): Engine {
    const { clock, random, logger, tls, ingressId } = this.#deps;
    const engine: Engine = {
      draining: false,
      heardAtMs: Number.NEGATIVE_INFINITY,
      pending: new Map(),
      link: new StreamLink<SessionRequestFrame, SessionResponseFrame>(
        address,
        { clock, random, logger, tls },
        {
          path: SESSION_PATH,
          outgoing,
          incoming,
          hello: () => frameOf({ case: "hello", value: { $typeName: "signalbox.policy.v1.SessionHello", ingressId } }),
          onOpen: () => {
            engine.draining = false;
            this.#refresh();
          },
          onFrame: (frame) => this.#received(engine, frame),
          onLost: () => {
            this.#refresh();
            this.#rejectAll(engine, "the policy engine was lost");
          },
        },
      ),
    };
    return engine;
  }

  #refresh(): void {
    this.#usable = [...this.#engines.values()].filter((engine) => engine.link.open && !engine.draining);
  }

  #received(engine: Engine, { frame }: SessionResponseFrame): void {
    engine.heardAtMs = this.#deps.clock.monotonicMs();
    switch (frame.case) {
      case "decision":
        return this.#answered(engine, frame.value);
      case "queued": {
        const pending = engine.pending.get(frame.value);
        // it waits in the engine's scheduler: from here on only the caller's deadline counts
        if (pending) pending.settled = true;
        return;
      }
      case "fallback":
        this.fallback = frame.value;
        for (const listener of this.#listeners) listener(frame.value);
        return;
      case "preemption":
        for (const listener of this.#preemptionListeners) listener(frame.value);
        return;
      case "draining":
        engine.draining = true;
        return this.#refresh();
      case undefined:
    }
  }

  #answered(engine: Engine, decision: Decision): void {
    const pending = engine.pending.get(decision.decisionId);
    if (!pending) {
      // withdrawn, or over: what the engine reserved must not stay reserved
      if (decision.result.case === "allow" && this.#deciderOf(decision.decisionId) === undefined)
        send(engine, { case: "report", value: doneReport(decision.decisionId) });
      return;
    }
    engine.pending.delete(decision.decisionId);
    pending.settled = true;
    if (decision.result.case === "allow") this.#remember(decision.decisionId, engine);
    pending.resolve(decision);
  }

  #remember(id: string, engine: Engine): void {
    if (this.#decided.size >= DECIDED_MAX) {
      this.#decidedBefore = this.#decided;
      this.#decided = new Map();
    }
    this.#decided.set(id, engine);
  }

  /** Whoever decided a request decides it again, because it knows what that request still takes up; others go in turn. */
  #engineFor(id: string): Engine | undefined {
    const decider = this.#deciderOf(id);
    if (decider !== undefined && this.#usable.includes(decider)) return decider;
    return this.#usable[this.#turn++ % Math.max(1, this.#usable.length)];
  }

  #deciderOf(id: string): Engine | undefined {
    return this.#decided.get(id) ?? this.#decidedBefore.get(id);
  }

  #cancel(pending: Pending): void {
    if (!pending.engine.pending.delete(pending.id)) return;
    pending.settled = true;
    send(pending.engine, { case: "cancel", value: pending.id });
    pending.reject(new SignalboxError("CANCELED", "the request was withdrawn"));
  }

  #timedOut(pending: Pending): void {
    const silentMs = this.#deps.clock.monotonicMs() - pending.engine.heardAtMs;
    if (silentMs < this.#answerTimeoutMs && pending.extensions++ < EXTENSIONS_MAX) return this.#timeouts.push(pending);
    if (!pending.engine.pending.delete(pending.id)) return;
    pending.settled = true;
    send(pending.engine, { case: "cancel", value: pending.id });
    // slow is not gone: what becomes of the request without it is still reported, behind the question, so that its books are right
    this.#remember(pending.id, pending.engine);
    pending.reject(unavailable("no policy engine answered in time"));
  }

  #rejectAll(engine: Engine, why: string): void {
    const all = [...engine.pending.values()];
    engine.pending.clear();
    for (const generation of [this.#decided, this.#decidedBefore]) {
      for (const [id, decided] of generation) if (decided === engine) generation.delete(id);
    }
    for (const pending of all) {
      pending.settled = true;
      pending.reject(unavailable(why));
    }
  }
}

function frameOf(frame: SessionRequestFrame["frame"]): SessionRequestFrame {
  return { $typeName: "signalbox.policy.v1.SessionRequestFrame", frame };
}

function send(engine: Engine, frame: SessionRequestFrame["frame"], payloadBytes = 0): void {
  engine.link.send(frameOf(frame), payloadBytes);
}

function doneReport(decisionId: string): AttemptReport {
  return {
    $typeName: "signalbox.policy.v1.AttemptReport",
    decisionId,
    attemptId: "",
    backend: "",
    event: { case: "requestDone", value: { $typeName: "signalbox.policy.v1.RequestDone" } },
  };
}

function unavailable(why: string): SignalboxError {
  return new SignalboxError("NO_BACKEND", why, { code: "policy_unavailable" });
}

function rejected(cause: SignalboxError): Promise<never> {
  const promise = Promise.reject(cause);
  promise.catch(() => {});
  return promise;
}
