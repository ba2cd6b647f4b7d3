import type { Clock } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { SYSTEM_TENANT } from "#libs/money/index.ts";
import type { PolicyPeer } from "#libs/peers/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import type { Admission } from "./budgets/admission.ts";
import { type DispatchDeps, RetryBudgets } from "./dispatch-deps.ts";
import { Dispatcher } from "./dispatcher.ts";
import type { Said } from "./experiments/said.ts";
import type { Intake } from "./intake.ts";
import type { Reply } from "./reply.ts";
import type { RequestSummary } from "./summary.ts";

/** Status of a request whose caller left: here, of one that was given up. */
const CLIENT_GONE = 499;

/** What makes a request the gateway's own: a copy, or a question to a judge. It is decided as the client's, and booked elsewhere. */
export interface Internal {
  /** Team of the tenant `system` that pays. */
  readonly team: string;
  /** What its attempts are booked under. */
  readonly experiment: string;
  readonly arm: string;
  readonly revision: bigint;
  /** The answer a copy's is held against. */
  readonly compare: Said | undefined;
}

/** Whom a request is booked on and whose budgets it needs. */
export interface Payer {
  readonly tenant: string;
  readonly team: string;
  readonly keyId: string;
}

/** Who pays for a request. */
export function payerOf({ internal, decide }: Intake): Payer {
  return internal === undefined ? decide : { tenant: SYSTEM_TENANT, team: internal.team, keyId: "" };
}

/** How an internal request ended. */
export interface InternalEnd {
  /** Pieces of a whole answer; undefined = it failed. */
  readonly pieces: readonly Uint8Array[] | undefined;
  /** Why it failed. */
  readonly error: SignalboxError | undefined;
  /** Undefined where it was refused before it was dispatched. */
  readonly summary: RequestSummary | undefined;
}

/** An internal request under way. */
export interface InternalCall {
  /** Ends it now; its end still follows. */
  cancel(): void;
}

/** Keeps what a dispatched request answers. */
class KeptReply implements Reply {
  pieces: Uint8Array[] = [];
  error: SignalboxError | undefined;
  #bytes = 0;
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  open(): void {}

  write(bytes: Uint8Array): boolean {
    this.#bytes += bytes.length;
    if (this.#bytes > this.#maxBytes) this.pieces = [];
    else this.pieces.push(bytes);
    return true;
  }

  keepAlive(): void {}

  finish(): void {}

  whole(_facts: unknown, pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) this.write(piece);
  }

  fail(error: SignalboxError): void {
    this.error = error;
  }

  drop(): void {}

  pendingBytes(): number {
    return 0;
  }

  get answer(): readonly Uint8Array[] | undefined {
    return this.error === undefined && this.#bytes > 0 && this.#bytes <= this.#maxBytes ? this.pieces : undefined;
  }
}

interface Running {
  readonly reply: KeptReply;
  readonly done: (end: InternalEnd) => void;
}

/**
 * Requests the gateway makes by itself, through a dispatcher of their own: with their own retry budget, without client metrics, and
 * without the fallback that clients get when no engine answers.
 */
export class InternalTraffic {
  readonly #admission: Admission;
  readonly #dispatcher: Dispatcher;
  readonly #running = new Map<string, Running>();

  constructor(deps: Omit<DispatchDeps, "recorder" | "witness" | "budgets">, clock: Clock, admission: Admission) {
    this.#admission = admission;
    this.#dispatcher = new Dispatcher({
      ...deps,
      // Whatever becomes of it is counted by whoever asked; a line each would drown the clients' own.
      logger: silentLogger,
      policy: withoutFallback(deps.policy),
      budgets: new RetryBudgets(deps.config, clock),
      recorder: { began: () => {}, finished: (summary) => this.#finished(summary) },
    });
  }

  start(): void {
    this.#dispatcher.start();
  }

  stop(): void {
    this.#dispatcher.stop();
  }

  /** Resolves when every attempt is settled. */
  whenIdle(): Promise<void> {
    return this.#dispatcher.whenIdle();
  }

  /** Sends a request once its budget allows it. `done` is called once, maybe at once; an answer beyond `maxBytes` is not kept. */
  run(intake: Intake, maxBytes: number, done: (end: InternalEnd) => void): InternalCall {
    const { decisionId } = intake.decide;
    let call: InternalCall | undefined;
    let ended = false;
    const refuse = (error: SignalboxError): void => {
      ended = true;
      done({ pieces: undefined, error, summary: undefined });
    };
    const withdraw = this.#admission.admit(intake, (error) => {
      if (error !== undefined) return refuse(error);
      const reply = new KeptReply(maxBytes);
      this.#running.set(decisionId, { reply, done });
      call = this.#dispatcher.dispatch(intake, reply);
    });
    return {
      cancel: () => {
        if (call !== undefined) return call.cancel();
        if (ended || withdraw === undefined) return;
        withdraw();
        refuse(givenUp());
      },
    };
  }

  #finished(summary: RequestSummary): void {
    const { decisionId } = summary.intake.decide;
    this.#admission.close(decisionId);
    const running = this.#running.get(decisionId);
    this.#running.delete(decisionId);
    const error = summary.error ?? running?.reply.error ?? (summary.status === CLIENT_GONE ? givenUp() : undefined);
    running?.done({ pieces: error === undefined ? running.reply.answer : undefined, error, summary });
  }
}

function givenUp(): SignalboxError {
  return new SignalboxError("CANCELED", "It was given up.");
}

/** Nobody waits for these: without an engine they are not sent at all. */
function withoutFallback(policy: PolicyPeer): PolicyPeer {
  return {
    decide: (request) => policy.decide(request),
    report: (report) => policy.report(report),
    onPreemption: (listener) => policy.onPreemption(listener),
    fallback: undefined,
    get connected() {
      return policy.connected;
    },
  };
}
