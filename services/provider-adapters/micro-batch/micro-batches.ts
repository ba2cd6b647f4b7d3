import type { AttemptEnd, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ProviderName } from "#libs/config/model.ts";
import type { AttemptHandle, AttemptSink } from "#libs/peers/index.ts";
import { attemptEnd, cancelledEnding, NO_ANSWER } from "../attempt-end.ts";
import { attemptError } from "../codec.ts";
import type { BackendEntry } from "../registry.ts";
import { Batcher, type BatchLimits } from "./batcher.ts";
import { SharedCall } from "./call.ts";
import { Member, type MemberOwner } from "./member.ts";
import { readBatchRequest } from "./request.ts";

/** How much one call holds and how long others are waited for (routing, 1.10.4). */
interface LaneLimits extends BatchLimits {
  readonly maxWaitMs: number;
  /** For the batch class. */
  readonly maxWaitBatchMs: number;
}

/** Engines of one's own: text-embeddings-inference refuses more than 32 inputs unless told otherwise. */
const LOCAL: LaneLimits = { maxItems: 32, maxTokens: 16_000, maxWaitMs: 4, maxWaitBatchMs: 4 };

/** Clouds: far below OpenAI's 2,048 inputs and 300k tokens, so that one slow call does not hold hundreds up. */
const CLOUD: LaneLimits = { maxItems: 256, maxTokens: 100_000, maxWaitMs: 10, maxWaitBatchMs: 50 };

const LOCAL_PROVIDERS: ReadonlySet<ProviderName> = new Set(["vllm", "sglang", "llamacpp", "tgi", "ollama", "openai-compatible"]);

/** Lanes at once; requests of further kinds go alone. A client chooses `dimensions`, so it must not choose how many lanes there are. */
const LANES_MAX = 1_024;

/** Members waiting in one lane while the backend has no room, or others' answers hold it; beyond it the backend counts as busy. */
const WAITING_MAX = 4_096;

/** What micro-batches work with. */
export interface MicroBatchDeps {
  readonly clock: Clock;
  readonly replica: string;
  /** Starts an upstream call; undefined = the backend has no room. */
  start(entry: BackendEntry, open: AttemptOpen, sink: AttemptSink): AttemptHandle | undefined;
  /** An attempt ended; right before its sink hears of it. */
  ended(entry: BackendEntry, open: AttemptOpen, end: AttemptEnd): void;
}

/** Those who may share calls: same backend, dimensions, encoding and kind of input. */
class Lane implements MemberOwner {
  readonly entry: BackendEntry;
  readonly limits: LaneLimits;
  readonly batcher: Batcher<Member>;
  readonly #deps: MicroBatchDeps;
  readonly #calls = new Map<Member, SharedCall>();
  /** Parts of calls that were refused whole, not sent yet. */
  readonly #halves: (readonly Member[])[] = [];
  readonly #onIdle: () => void;

  /** `onStuck`: the backend has no room, and no call of this lane will make any. */
  constructor(deps: MicroBatchDeps, entry: BackendEntry, onIdle: () => void, onStuck: () => void) {
    this.#deps = deps;
    this.entry = entry;
    this.limits = LOCAL_PROVIDERS.has(entry.backend.provider) ? LOCAL : CLOUD;
    this.#onIdle = onIdle;
    this.batcher = new Batcher(this.limits, deps.clock, (members) => this.#send(members), onStuck);
  }

  cancelled(member: Member): void {
    if (this.batcher.remove(member)) {
      queueMicrotask(() => member.finish(untouched(cancelledEnding(member.reason!))));
      this.#onIdle();
      return;
    }
    this.#calls.get(member)?.left(member.reason!);
  }

  ended(member: Member, end: AttemptEnd): void {
    this.#deps.ended(this.entry, member.open, end);
  }

  #send(members: readonly Member[]): boolean {
    const call = new SharedCall(
      members,
      this.entry.backend.model,
      () => this.#deps.clock.monotonicMs(),
      (over, refused) => this.#over(over, refused),
    );
    if (!call.start((open, sink) => this.#deps.start(this.entry, open, sink))) return false;
    for (const member of members) this.#calls.set(member, call);
    return true;
  }

  /** No room. Sinks must not hear of an end before `attempt()` returned. */
  #refuse(members: readonly Member[]): void {
    queueMicrotask(() => {
      const error = attemptError("UPSTREAM_UNAVAILABLE", "The backend has no room.", { untouched: true, busy: true });
      for (const member of members) member.finish(untouched({ outcome: Outcome.FAILED, error }));
      this.#onIdle();
    });
  }

  /** The call is over; half and half again finds the input that spoiled it. */
  #over({ members }: SharedCall, refused: boolean): void {
    for (const member of members) this.#calls.delete(member);
    if (refused) {
      const half = Math.ceil(members.length / 2);
      this.#halves.push(members.slice(0, half), members.slice(half));
    }
    this.#sendHalves();
    this.batcher.returned();
    this.#onIdle();
  }

  /** Halves go before those who wait, as far as there is room. */
  #sendHalves(): void {
    for (let half = this.#halves[0]; half !== undefined; half = this.#halves[0]) {
      const waiting = half.filter((member) => member.reason === undefined);
      for (const member of half) if (member.reason !== undefined) member.finish(untouched(cancelledEnding(member.reason)));
      if (waiting.length > 0) {
        if (this.#send(waiting)) this.batcher.began();
        else if (this.batcher.calls > 1) {
          this.#halves[0] = waiting;
          return;
        } else this.#refuse(waiting);
      }
      this.#halves.shift();
    }
  }
}

/** The end of an attempt nothing of which was sent. */
function untouched(ending: Parameters<typeof attemptEnd>[0]): AttemptEnd {
  const times = { ttftMs: 0, durationMs: 0, headersMs: 0, contentSeen: false, dispatched: false, warnings: [], rateLimit: undefined };
  return attemptEnd(ending, NO_ANSWER, times);
}

/** Embeddings that wait for each other: many small requests in few calls, each caller with its own end, tokens and fate. */
export class MicroBatches {
  readonly #deps: MicroBatchDeps;
  readonly #lanes = new Map<string, Lane>();
  /** Lanes that wait for room somebody else has taken, in the order they began to. */
  readonly #stuck = new Set<Lane>();

  constructor(deps: MicroBatchDeps) {
    this.#deps = deps;
  }

  /** Members that wait for a call. */
  get waiting(): number {
    let count = 0;
    for (const lane of this.#lanes.values()) count += lane.batcher.waiting;
    return count;
  }

  /** Takes an attempt; undefined = it must go alone. */
  take(entry: BackendEntry, open: AttemptOpen, sink: AttemptSink): AttemptHandle | undefined {
    const request = readBatchRequest(open);
    if (request === undefined) return undefined;
    const lane = this.#laneOf(entry, request.key);
    if (lane === undefined || lane.batcher.waiting >= WAITING_MAX || request.inputs.length >= lane.limits.maxItems) return undefined;
    const { maxWaitMs, maxWaitBatchMs } = lane.limits;
    const times = {
      startMs: this.#deps.clock.monotonicMs(),
      maxWaitMs: open.requestClass === RequestClass.BATCH ? maxWaitBatchMs : maxWaitMs,
    };
    const member = new Member(open, request, times, sink, lane, this.#deps.replica);
    if (member.tokens >= lane.limits.maxTokens) return undefined;
    lane.batcher.add(member);
    return member;
  }

  /** A call to the backend is over, whoever's it was: who waits for room is next. */
  roomAt(entry: BackendEntry): void {
    if (this.#stuck.size === 0) return;
    for (const lane of this.#stuck) {
      if (lane.entry !== entry) continue;
      this.#stuck.delete(lane);
      lane.batcher.flush();
      // It is stuck again: there is no room for the others either.
      if (this.#stuck.has(lane)) return;
    }
  }

  /** Sends all that waits, at once. */
  flush(): void {
    for (const lane of this.#lanes.values()) lane.batcher.flush();
  }

  #laneOf(entry: BackendEntry, key: string): Lane | undefined {
    const name = `${entry.backend.name}\u0000${key}`;
    const known = this.#lanes.get(name);
    // A reload makes new entries; calls under way keep theirs.
    if (known?.entry === entry) return known;
    if (known === undefined && this.#lanes.size >= LANES_MAX) return undefined;
    const lane: Lane = new Lane(
      this.#deps,
      entry,
      () => {
        if (lane.batcher.calls === 0 && lane.batcher.waiting === 0 && this.#lanes.get(name) === lane) this.#lanes.delete(name);
      },
      () => this.#stuck.add(lane),
    );
    this.#lanes.set(name, lane);
    return lane;
  }
}
