import { hash } from "node:crypto";
import type { Clock } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Caller } from "./auth.ts";
import {
  IDEMPOTENCY_ANSWER_MAX_BYTES,
  IDEMPOTENCY_FOLLOWERS_MAX,
  IDEMPOTENCY_KEYS_MAX,
  IDEMPOTENCY_TOTAL_MAX_BYTES,
  IDEMPOTENCY_TTL_MS,
} from "./limits.ts";
import { NO_FACTS } from "./reply-facts.ts";
import type { Reply, ReplyFacts } from "./reply.ts";
import { mismatchError, type Recording, type SharedAnswers } from "./shared-answers.ts";

interface Follower {
  readonly reply: Reply;
  readonly requestId: string;
}

interface Entry {
  readonly key: string;
  readonly bodyDigest: string;
  readonly expiresAtMs: number;
  followers: Follower[];
  /** Set once the answer is complete. */
  recording: Recording | undefined;
  bytes: number;
}

/** What becomes of a request that names an idempotency key. */
export type Admission =
  /** Go on, and answer through this reply: it records what it passes on. */
  | { readonly kind: "lead"; readonly reply: LeadReply }
  /** The answer of an earlier request with the same key serves it, now or when it is complete. */
  | { readonly kind: "follow"; readonly leave: () => void };

/**
 * Answers by idempotency key (decision 28): same key and body get the running or finished answer for ten minutes, without a
 * second call upstream. Successes are kept, in bounded memory; a failure goes to those who wait and is forgotten. With
 * `shared`, keys this ingress does not know are looked up among all of them.
 */
export class IdempotencyStore {
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();
  readonly #shared: SharedAnswers | undefined;
  #bytes = 0;

  constructor(clock: Clock, shared?: SharedAnswers) {
    this.#clock = clock;
    this.#shared = shared;
  }

  /** Throws IDEMPOTENCY when the key came with another body before. */
  admit(caller: Caller, idempotencyKey: string, body: Uint8Array, reply: Reply, requestId: string): Admission {
    this.#expire();
    const key = `${caller.tenant}\u0000${caller.keyId}\u0000${idempotencyKey}`;
    const bodyDigest = hash("sha256", body, "base64");
    const known = this.#entries.get(key);
    if (known !== undefined) {
      if (known.bodyDigest !== bodyDigest) throw mismatchError();
      return this.#follow(known, { reply, requestId });
    }
    const expiresAtMs = this.#clock.monotonicMs() + IDEMPOTENCY_TTL_MS;
    const entry: Entry = { key, bodyDigest, expiresAtMs, followers: [], recording: undefined, bytes: 0 };
    if (this.#entries.size < IDEMPOTENCY_KEYS_MAX) this.#entries.set(key, entry);
    return { kind: "lead", reply: new LeadReply(this, entry, reply, requestId) };
  }

  #follow(entry: Entry, follower: Follower): Admission {
    if (entry.recording !== undefined) {
      replay(entry.recording, follower);
      return { kind: "follow", leave: () => {} };
    }
    if (entry.followers.length >= IDEMPOTENCY_FOLLOWERS_MAX) {
      throw new SignalboxError("RATE_LIMITED", "Too many requests wait for the answer of this idempotency key.");
    }
    entry.followers.push(follower);
    return {
      kind: "follow",
      leave: () => {
        entry.followers = entry.followers.filter((other) => other !== follower);
      },
    };
  }

  /**
   * Asks the other ingresses for a key that nobody here knew: calls `go` when this one is to make the answer, else the answer
   * or its refusal goes to `lead`. Returns what withdraws the question; undefined when the answer was known at once.
   */
  whenClaimed(entry: Entry, lead: LeadReply, go: () => void): (() => void) | undefined {
    if (this.#shared === undefined) {
      go();
      return undefined;
    }
    return this.#shared.ask(entry.key, entry.bodyDigest, (verdict) => {
      if (verdict.kind === "lead") return go();
      if (verdict.kind === "answer") return lead.replay(verdict.recording);
      lead.fail(verdict.error, NO_FACTS);
    });
  }

  /** The answer is complete; `undefined` when it is too large to keep. */
  complete(entry: Entry, recording: Recording | undefined, bytes: number): void {
    const { followers } = entry;
    entry.followers = [];
    this.#shared?.finished(entry.key, entry.bodyDigest, recording ?? "too_large");
    if (recording === undefined) {
      this.#entries.delete(entry.key);
      for (const { reply, requestId } of followers) reply.fail(tooLarge(), { ...NO_FACTS, requestId });
      return;
    }
    for (const follower of followers) replay(recording, follower);
    if (this.#entries.get(entry.key) !== entry) return;
    entry.recording = recording;
    entry.bytes = bytes;
    this.#bytes += bytes;
    this.#shrink();
  }

  /** The request failed: whoever waits hears the same, and the key is free again. */
  failed(entry: Entry, error: SignalboxError, facts: ReplyFacts): void {
    this.#forget(entry);
    const { followers } = entry;
    entry.followers = [];
    for (const follower of followers) follower.reply.fail(error, { ...facts, requestId: follower.requestId });
  }

  /** Nobody waits any more. */
  abandoned(entry: Entry): void {
    this.#forget(entry);
  }

  #forget(entry: Entry): void {
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
    this.#shared?.finished(entry.key, entry.bodyDigest, undefined);
  }

  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const entry of this.#entries.values()) {
      if (entry.expiresAtMs > nowMs) return;
      this.#remove(entry);
    }
  }

  #shrink(): void {
    for (const entry of this.#entries.values()) {
      if (this.#bytes <= IDEMPOTENCY_TOTAL_MAX_BYTES) return;
      if (entry.recording !== undefined) this.#remove(entry);
    }
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.key);
    this.#bytes -= entry.bytes;
    entry.bytes = 0;
  }
}

function replay(recording: Recording, follower: Follower): void {
  const facts = { ...recording.facts, requestId: follower.requestId };
  if (!recording.stream) return follower.reply.whole(facts, recording.pieces);
  follower.reply.open(facts);
  for (const piece of recording.pieces) follower.reply.write(piece);
  follower.reply.finish(facts, recording.usageEvent);
}

/** The reply of the request that leads: passes everything on and keeps a copy while it is small enough. */
export class LeadReply implements Reply {
  readonly #store: IdempotencyStore;
  readonly #entry: Entry;
  readonly #reply: Reply;
  readonly #requestId: string;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #readerGone = false;

  constructor(store: IdempotencyStore, entry: Entry, reply: Reply, requestId: string) {
    this.#store = store;
    this.#entry = entry;
    this.#reply = reply;
    this.#requestId = requestId;
  }

  /** Calls `go` when the answer is to be made here; see {@link IdempotencyStore.whenClaimed}. */
  whenClaimed(go: () => void): (() => void) | undefined {
    return this.#store.whenClaimed(this.#entry, this, go);
  }

  /** Another ingress made the answer: it is this one's too. */
  replay(recording: Recording): void {
    replay(recording, { reply: this, requestId: this.#requestId });
  }

  /** The leading client went away. True = nobody else waits: cancel. False = go on for those who do. */
  readerGone(): boolean {
    this.#readerGone = true;
    if (this.#entry.followers.length === 0) this.#store.abandoned(this.#entry);
    else if (this.#bytes <= IDEMPOTENCY_ANSWER_MAX_BYTES) return false;
    else this.#store.failed(this.#entry, tooLarge(), NO_FACTS);
    return true;
  }

  open(facts: ReplyFacts): void {
    if (!this.#readerGone) this.#reply.open(facts);
  }

  write(bytes: Uint8Array): boolean {
    this.#keep(bytes);
    return this.#readerGone || this.#reply.write(bytes);
  }

  keepAlive(): void {
    if (!this.#readerGone) this.#reply.keepAlive();
  }

  finish(facts: ReplyFacts, usageEvent: Uint8Array | undefined): void {
    if (!this.#readerGone) this.#reply.finish(facts, usageEvent);
    this.#complete({ stream: true, facts, pieces: this.#pieces, usageEvent });
  }

  whole(facts: ReplyFacts, pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) this.#keep(piece);
    if (!this.#readerGone) this.#reply.whole(facts, pieces);
    this.#complete({ stream: false, facts, pieces: this.#pieces, usageEvent: undefined });
  }

  fail(error: SignalboxError, facts: ReplyFacts): void {
    const own = facts === NO_FACTS ? { ...facts, requestId: this.#requestId } : facts;
    if (!this.#readerGone) this.#reply.fail(error, own);
    this.#store.failed(this.#entry, error, facts);
  }

  drop(): void {
    if (!this.#readerGone) this.#reply.drop();
  }

  pendingBytes(): number {
    return this.#readerGone ? 0 : this.#reply.pendingBytes();
  }

  #keep(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (this.#bytes <= IDEMPOTENCY_ANSWER_MAX_BYTES) this.#pieces.push(bytes);
    else this.#pieces = [];
  }

  #complete(recording: Recording): void {
    if (this.#bytes <= IDEMPOTENCY_ANSWER_MAX_BYTES) return this.#store.complete(this.#entry, recording, this.#bytes);
    this.#store.complete(this.#entry, undefined, 0);
  }
}

function tooLarge(): SignalboxError {
  return new SignalboxError("IDEMPOTENCY", "The answer of this idempotency key is too large to be kept.", { httpStatus: 409 });
}
