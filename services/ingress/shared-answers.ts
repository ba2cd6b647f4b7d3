import { hash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  IdempotencyAnswerSchema,
  IdempotencyClaimSchema,
  IdempotencyEndedSchema,
  type IdempotencyAnswer,
} from "#gen/signalbox/events/v1/events_pb.ts";
import type { EventBus, KeyValue, Subscription } from "#libs/bus/index.ts";
import { SUBJECTS, subjectOf } from "#libs/bus/index.ts";
import type { Clock, Timer } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import {
  IDEMPOTENCY_CLAIM_RENEW_MS,
  IDEMPOTENCY_CLAIM_TTL_MS,
  IDEMPOTENCY_CLAIM_WAIT_MS,
  IDEMPOTENCY_LOOK_MS,
  IDEMPOTENCY_SHARED_MAX_BYTES,
  IDEMPOTENCY_TOTAL_MAX_BYTES,
  IDEMPOTENCY_TTL_MS,
} from "./limits.ts";
import type { ReplyFacts } from "./reply.ts";

/** A finished answer that can be given again. */
export interface Recording {
  readonly stream: boolean;
  readonly facts: ReplyFacts;
  readonly pieces: readonly Uint8Array[];
  readonly usageEvent: Uint8Array | undefined;
}

/** What becomes of a request whose key this ingress does not know. */
export type Verdict =
  /** This ingress makes the answer. */
  | { readonly kind: "lead" }
  /** Another one made it. */
  | { readonly kind: "answer"; readonly recording: Recording }
  | { readonly kind: "refused"; readonly error: SignalboxError };

/** What sharing needs. */
export interface SharedAnswersDeps {
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ingressId: string;
}

interface Question {
  readonly digest: string;
  withdrawn: boolean;
  /** Ends the wait for another ingress at once. */
  wake: () => void;
}

const LEAD: Verdict = { kind: "lead" };

/**
 * Answers by idempotency key over all ingresses (decision 28). Whoever creates the key's claim makes the answer and renews the
 * claim while it does; the others wait for its end, or for the claim to lapse with the one who held it. Where the bus is away
 * or does not answer soon, every ingress is on its own: a request is never refused or held up for that.
 */
export class SharedAnswers {
  readonly #deps: SharedAnswersDeps;
  readonly #claims: KeyValue;
  readonly #answers: KeyValue;
  /** Claims held by this ingress, with their values. */
  readonly #held = new Map<string, Uint8Array>();
  #timer: Timer | undefined;
  #connection: Subscription | undefined;

  constructor(deps: SharedAnswersDeps) {
    this.#deps = deps;
    this.#claims = deps.bus.keyValue("signalbox-idempotency-claims", { ttlMs: IDEMPOTENCY_CLAIM_TTL_MS, memory: true });
    this.#answers = deps.bus.keyValue("signalbox-idempotency", {
      ttlMs: IDEMPOTENCY_TTL_MS,
      memory: true,
      maxBytes: IDEMPOTENCY_TOTAL_MAX_BYTES,
    });
  }

  start(): void {
    this.#warmUp();
    this.#connection = this.#deps.bus.onConnection((connected) => {
      if (connected) this.#warmUp();
    });
    this.#timer = this.#deps.clock.every(IDEMPOTENCY_CLAIM_RENEW_MS, () => {
      for (const [id, claim] of this.#held) this.#try(this.#claims.put(id, claim), "renewed");
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#connection?.close();
  }

  /** The first request of a key need not wait for the buckets to be made: it waits half a second, and is then on its own. */
  #warmUp(): void {
    for (const bucket of [this.#claims, this.#answers])
      this.#try(
        bucket.get("").then(() => undefined),
        "looked at",
      );
  }

  /** Calls `done` once, unless the returned function is called first: then nothing stays claimed. */
  ask(key: string, digest: string, done: (verdict: Verdict) => void): () => void {
    const question: Question = { digest, withdrawn: false, wake: () => {} };
    const id = idOf(key);
    const answer = async (): Promise<void> => {
      const verdict = await this.#verdict(id, question);
      if (!question.withdrawn) done(verdict);
      else if (verdict.kind === "lead") this.finished(key, digest, undefined);
    };
    this.#try(answer(), "answered");
    return () => {
      question.withdrawn = true;
      question.wake();
    };
  }

  async #verdict(id: string, question: Question): Promise<Verdict> {
    try {
      return await this.#decide(id, question);
    } catch (error) {
      this.#deps.logger.debug({ error: String(error) }, "an idempotency key stays with this ingress: the bus does not answer");
      return LEAD;
    }
  }

  /** The answer this ingress made for a key is complete, or will not be (undefined): the others learn of it. */
  finished(key: string, digest: string, recording: Recording | "too_large" | undefined): void {
    const id = idOf(key);
    if (!this.#held.delete(id)) return;
    this.#try(this.#end(id, digest, recording), "ended");
  }

  async #end(id: string, digest: string, recording: Recording | "too_large" | undefined): Promise<void> {
    let tooLarge = recording === "too_large";
    if (recording !== undefined && recording !== "too_large") {
      const bytes = encode(recording, digest);
      // A bucket that is full keeps no more either.
      tooLarge =
        bytes.length > IDEMPOTENCY_SHARED_MAX_BYTES ||
        !(await this.#answers.put(id, bytes).then(
          () => true,
          () => false,
        ));
    }
    await this.#claims.delete(id);
    const ended = toBinary(IdempotencyEndedSchema, create(IdempotencyEndedSchema, { tooLarge }));
    this.#deps.bus.publish(subjectOf(SUBJECTS.idempotencyEnded, id), ended);
  }

  async #decide(id: string, question: Question): Promise<Verdict> {
    const claim = toBinary(
      IdempotencyClaimSchema,
      create(IdempotencyClaimSchema, { bodyDigest: question.digest, ingress: this.#deps.ingressId }),
    );
    if (await this.#claim(id, claim)) return (await this.#known(id, question.digest, true)) ?? LEAD;
    const { clock, bus } = this.#deps;
    let tooLarge = false;
    const ended = bus.subscribe(subjectOf(SUBJECTS.idempotencyEnded, id), (message) => {
      tooLarge ||= fromBinary(IdempotencyEndedSchema, message.payload).tooLarge;
      question.wake();
    });
    const endMs = clock.monotonicMs() + IDEMPOTENCY_TTL_MS;
    try {
      while (!question.withdrawn && clock.monotonicMs() < endMs) {
        const known = await this.#known(id, question.digest, false);
        if (known !== undefined) return known;
        if (tooLarge) return refused("The answer of this idempotency key is too large to be kept.", 409);
        if (await this.#claim(id, claim)) return (await this.#known(id, question.digest, true)) ?? LEAD;
        if (await this.#isOther(id, question.digest)) return mismatch();
        await this.#pause(question);
      }
      return refused("The answer of this idempotency key does not end.", 409);
    } finally {
      ended.close();
    }
  }

  /** Tries to become the one who makes the answer. Rejects when the bus does not say in time. */
  async #claim(id: string, claim: Uint8Array): Promise<boolean> {
    if (!(await this.#soon(this.#claims.create(id, claim)))) return false;
    this.#held.set(id, claim);
    return true;
  }

  /** The answer that is already there; with `held`, the claim that was just made for nothing is given up. */
  async #known(id: string, digest: string, held: boolean): Promise<Verdict | undefined> {
    const bytes = await this.#soon(this.#answers.get(id));
    if (bytes === undefined) return undefined;
    if (held && this.#held.delete(id)) this.#try(this.#end(id, digest, undefined), "given up");
    const answer = fromBinary(IdempotencyAnswerSchema, bytes);
    return answer.bodyDigest === digest ? { kind: "answer", recording: decode(answer) } : mismatch();
  }

  async #isOther(id: string, digest: string): Promise<boolean> {
    const bytes = await this.#soon(this.#claims.get(id));
    return bytes !== undefined && fromBinary(IdempotencyClaimSchema, bytes).bodyDigest !== digest;
  }

  /** Until the other one says that it is done, or a look is due: its word may be lost, and it may die without one. */
  #pause(question: Question): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(IDEMPOTENCY_LOOK_MS, resolve);
      question.wake = () => {
        timer.cancel();
        resolve();
      };
      if (question.withdrawn) question.wake();
    });
  }

  async #soon<T>(work: Promise<T>): Promise<T> {
    const giveUp = new AbortController();
    const late = this.#deps.clock.sleep(IDEMPOTENCY_CLAIM_WAIT_MS, giveUp.signal).then(() => {
      throw new SignalboxError("NO_BACKEND", "the bus does not answer in time", { code: "bus_unavailable" });
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      giveUp.abort();
      late.catch(() => undefined);
    }
  }

  #try(work: Promise<void>, what: string): void {
    work.catch((error: unknown) =>
      this.#deps.logger.debug({ error: String(error) }, `the claim of an idempotency key could not be ${what}`),
    );
  }
}

/** Keys are the callers' own words: only a digest of them leaves this process. */
function idOf(key: string): string {
  return hash("sha256", key, "base64url");
}

/** The refusal of a key that came with another body before. */
export function mismatchError(): SignalboxError {
  return new SignalboxError("IDEMPOTENCY", "This idempotency key was used with another request body.", { param: "idempotency-key" });
}

function mismatch(): Verdict {
  return { kind: "refused", error: mismatchError() };
}

function refused(message: string, httpStatus: number): Verdict {
  return { kind: "refused", error: new SignalboxError("IDEMPOTENCY", message, { httpStatus }) };
}

function encode({ stream, facts, pieces, usageEvent }: Recording, bodyDigest: string): Uint8Array {
  const { decisionId, backend, model, attempts, experiment, queueMs, routeMs, upstreamMs, costNanoUsd } = facts;
  const answer = create(IdempotencyAnswerSchema, {
    bodyDigest,
    stream,
    body: Buffer.concat(pieces),
    decisionId,
    backend,
    model,
    attempts,
    experiment,
    queueMs,
    routeMs,
    upstreamMs,
    warnings: [...facts.warnings],
    ...(usageEvent === undefined ? {} : { usageEvent }),
    ...(costNanoUsd === undefined ? {} : { costNanoUsd }),
  });
  return toBinary(IdempotencyAnswerSchema, answer);
}

function decode(answer: IdempotencyAnswer): Recording {
  const { stream, body, usageEvent, decisionId, backend, model, attempts, experiment, queueMs, routeMs, upstreamMs } = answer;
  const facts = { requestId: "", decisionId, backend, model, attempts, experiment, queueMs, routeMs, upstreamMs };
  return { stream, pieces: [body], usageEvent, facts: { ...facts, warnings: answer.warnings, costNanoUsd: answer.costNanoUsd } };
}
