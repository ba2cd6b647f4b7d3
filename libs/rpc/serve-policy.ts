import type { ServerDuplexStream } from "@grpc/grpc-js";
import { create } from "@bufbuild/protobuf";
import { DecisionSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { SessionRequestFrameSchema, SessionResponseFrameSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { SessionRequestFrame, SessionResponseFrame } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { LiveMap } from "#libs/live/index.ts";
import type { DecideRequest, DecideTicket, Decision, PolicyHost, PolicySession } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { codecOf } from "#libs/wire/index.ts";
import { ServedFrames } from "./served-frames.ts";

/** Requests of one ingress that may wait in the engine at once; beyond, they are denied. The engine's own queues are far smaller. */
const TICKETS_MAX = 65_536;

const KIND = { title: "policy session", incoming: codecOf(SessionRequestFrameSchema), outgoing: codecOf(SessionResponseFrameSchema) };

/** Serves session streams from an engine. Returns the handler; sessions hear of draining by themselves. */
export function servePolicy(host: PolicyHost, logger: Logger): (call: ServerDuplexStream<Buffer, Buffer>) => void {
  const sessions = new Set<ServedSession>();
  let draining = false;
  host.onDraining(() => {
    draining = true;
    for (const session of sessions) session.drain();
  });
  return (call) => {
    const session = new ServedSession(call, host, logger, () => sessions.delete(session));
    sessions.add(session);
    if (draining) session.drain();
  };
}

/** One ingress's stream: everything it holds is released when the stream ends, however it ends. */
class ServedSession {
  readonly #host: PolicyHost;
  readonly #frames: ServedFrames<SessionRequestFrame, SessionResponseFrame>;
  readonly #tickets = new LiveMap<string, DecideTicket>();
  #session: PolicySession | undefined;

  constructor(call: ServerDuplexStream<Buffer, Buffer>, host: PolicyHost, logger: Logger, onClosed: () => void) {
    this.#host = host;
    const closed = (): void => {
      this.#release();
      onClosed();
    };
    this.#frames = new ServedFrames(call, KIND, { received: (frame) => this.#received(frame), closed }, logger);
  }

  drain(): void {
    this.#send({ case: "draining", value: { $typeName: "signalbox.policy.v1.SessionDraining" } });
  }

  #received({ frame }: SessionRequestFrame): void {
    if (frame.case === "hello") {
      if (this.#session) return;
      this.#session = this.#host.openSession(frame.value.ingressId);
      this.#session.onPreemption((preemption) => this.#send({ case: "preemption", value: preemption }));
      this.#session.onFallback((fallback) => this.#send({ case: "fallback", value: fallback }));
      return;
    }
    const session = this.#session;
    if (!session) throw new RangeError("the first frame is no hello");
    if (frame.case === "decide") this.#decide(session, frame.value);
    else if (frame.case === "report") session.report(frame.value);
    else if (frame.case === "cancel") this.#cancel(session, frame.value);
  }

  #decide(session: PolicySession, request: DecideRequest): void {
    const id = request.decisionId;
    if (this.#tickets.size >= TICKETS_MAX) {
      return this.#answer(denied(id, new SignalboxError("QUEUE_FULL", "too many requests wait in the policy engine")));
    }
    let ticket: DecideTicket;
    try {
      ticket = session.decide(request);
    } catch (cause) {
      return this.#answer(denied(id, cause));
    }
    const { decision } = ticket;
    if (!(decision instanceof Promise)) return this.#answer(decision);
    this.#tickets.set(id, ticket);
    this.#send({ case: "queued", value: id });
    decision.then(
      (value) => this.#settled(id, ticket, value),
      (cause: unknown) => this.#settled(id, ticket, denied(id, cause)),
    );
  }

  /** A cancelled one is released by its ticket; by now the request may have asked again. */
  #settled(id: string, ticket: DecideTicket, decision: Decision): void {
    if (this.#tickets.get(id) !== ticket) return;
    this.#tickets.delete(id);
    this.#answer(decision);
  }

  /** Withdraws a question; one that is answered already was answered too late. */
  #cancel(session: PolicySession, id: string): void {
    const ticket = this.#tickets.get(id);
    if (ticket === undefined) return session.unheard?.(id);
    ticket.cancel();
    this.#tickets.delete(id);
  }

  #answer(decision: Decision): void {
    this.#send({ case: "decision", value: decision });
  }

  #send(frame: SessionResponseFrame["frame"]): void {
    this.#frames.send({ $typeName: "signalbox.policy.v1.SessionResponseFrame", frame });
  }

  #release(): void {
    for (const ticket of this.#tickets.values()) ticket.cancel();
    this.#tickets.clear();
    this.#session?.close();
  }
}

function denied(decisionId: string, cause: unknown): Decision {
  const error = cause instanceof SignalboxError ? cause : new SignalboxError("INTERNAL", "the policy engine failed", { cause });
  const deny = {
    reason: error.reason,
    detail: error.message,
    retryAfterMs: error.retryAfterMs ?? 0,
    param: error.param ?? "",
    code: error.code,
  };
  return create(DecisionSchema, { decisionId, result: { case: "deny", value: deny } });
}
