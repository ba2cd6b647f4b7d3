import type { Clock } from "#libs/clock/index.ts";
import type { EngineProfile } from "./engine-profile.ts";
import { BLOCK_TOKENS, PrefixStore } from "./prefix-store.ts";

/** A request at an engine. Callbacks run in virtual time, synchronously with the iteration's end. */
export interface EngineCall {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly blocks: readonly number[];
  /** Lower runs earlier among those that wait. */
  readonly priority: number;
  onFirstToken(cachedTokens: number): void;
  /** After the first token, for each further one. */
  onToken(generated: number): void;
  onDone(): void;
}

interface Sequence {
  readonly call: EngineCall;
  readonly order: number;
  /** Prompt tokens still to compute. */
  left: number;
  cached: number;
  generated: number;
  running: boolean;
  gone: boolean;
}

/** Tokens kept free so that running sequences can grow. */
const WATERMARK_TOKENS = 64;

/** A vLLM-like engine: continuous batching, chunked prefill with decode first, KV admission, preemption by recomputation. */
export class SimulatedEngine {
  readonly profile: EngineProfile;
  /** Multiplies every iteration: a brownout. */
  slowdown = 1;
  readonly #clock: Clock;
  readonly #waiting: Sequence[] = [];
  readonly #running: Sequence[] = [];
  readonly #prefixes: PrefixStore;
  #kvTokens = 0;
  #busy = false;
  #orders = 0;
  /** Prompt tokens asked for and found cached, for hit rates. */
  promptTokens = 0;
  cachedTokens = 0;
  busyMs = 0;

  constructor(profile: EngineProfile, clock: Clock) {
    this.profile = profile;
    this.#clock = clock;
    this.#prefixes = new PrefixStore(profile.kvCapacity);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get running(): number {
    return this.#running.length;
  }

  /** 0..1. */
  get kvUsage(): number {
    return this.#kvTokens / this.profile.kvCapacity;
  }

  /** Takes a call; the returned function takes it back (the client or the router went away). */
  submit(call: EngineCall): () => void {
    const sequence: Sequence = {
      call,
      order: this.#orders++,
      left: call.inputTokens,
      cached: 0,
      generated: 0,
      running: false,
      gone: false,
    };
    this.#waiting.push(sequence);
    this.#kick();
    return () => this.#drop(sequence);
  }

  #drop(sequence: Sequence): void {
    if (sequence.gone) return;
    sequence.gone = true;
    if (sequence.running) {
      this.#running.splice(this.#running.indexOf(sequence), 1);
      this.#kvTokens -= footprint(sequence);
    } else this.#waiting.splice(this.#waiting.indexOf(sequence), 1);
  }

  #kick(): void {
    if (this.#busy) return;
    this.#busy = true;
    this.#iterate();
  }

  #iterate(): void {
    this.#admit();
    if (this.#running.length === 0) {
      this.#busy = false;
      return;
    }
    const { baseMs, prefillMs, decodeMs, kvMs, maxBatchTokens } = this.profile;
    let decoding = 0;
    let kv = 0;
    for (const sequence of this.#running) {
      if (sequence.left > 0) continue;
      decoding++;
      kv += sequence.call.inputTokens + sequence.generated;
    }
    let budget = maxBatchTokens - decoding;
    let prefill = 0;
    const batch: { readonly sequence: Sequence; readonly tokens: number }[] = [];
    for (const sequence of this.#running) {
      const tokens = sequence.left > 0 ? Math.min(sequence.left, budget) : 0;
      if (sequence.left > 0 && tokens <= 0) continue;
      budget -= tokens;
      prefill += tokens;
      batch.push({ sequence, tokens });
    }
    const tookMs = this.slowdown * (baseMs + prefillMs * prefill + decodeMs * decoding + kvMs * kv);
    this.busyMs += tookMs;
    this.#clock.after(tookMs, () => this.#finish(batch));
  }

  #finish(batch: readonly { readonly sequence: Sequence; readonly tokens: number }[]): void {
    for (const { sequence, tokens } of batch) {
      if (sequence.gone) continue;
      if (sequence.left > 0) {
        sequence.left -= tokens;
        if (sequence.left > 0) continue;
      }
      this.#emit(sequence);
    }
    this.#preempt();
    this.#iterate();
  }

  /** One more output token; the first comes with the end of the prompt. */
  #emit(sequence: Sequence): void {
    const { call } = sequence;
    sequence.generated++;
    this.#kvTokens++;
    if (sequence.generated === 1) {
      this.#prefixes.touch(call.blocks);
      call.onFirstToken(sequence.cached);
    } else call.onToken(sequence.generated);
    if (sequence.gone || sequence.generated < call.outputTokens) return;
    this.#drop(sequence);
    call.onDone();
  }

  #admit(): void {
    if (this.#waiting.length > 1) this.#waiting.sort((a, b) => a.call.priority - b.call.priority || a.order - b.order);
    while (this.#waiting.length > 0 && this.#running.length < this.profile.maxSequences) {
      const sequence = this.#waiting[0]!;
      const needed = footprint(sequence) + WATERMARK_TOKENS;
      if (this.#running.length > 0 && this.#kvTokens + needed > this.profile.kvCapacity) return;
      this.#waiting.shift();
      if (sequence.generated === 0) {
        // The last block is always computed: it yields the first token.
        const cached = Math.min(this.#prefixes.match(sequence.call.blocks) * BLOCK_TOKENS, sequence.call.inputTokens - 1);
        sequence.cached = cached;
        sequence.left = sequence.call.inputTokens - cached;
        this.promptTokens += sequence.call.inputTokens;
        this.cachedTokens += cached;
      } else sequence.left = footprint(sequence);
      sequence.running = true;
      this.#running.push(sequence);
      this.#kvTokens += footprint(sequence);
    }
  }

  /** While the cache overflows, the newest sequence goes back to the head of the queue and is recomputed later. */
  #preempt(): void {
    while (this.#kvTokens > this.profile.kvCapacity && this.#running.length > 1) {
      const victim = this.#running.pop()!;
      this.#kvTokens -= footprint(victim);
      victim.running = false;
      this.#waiting.unshift(victim);
    }
  }
}

/** Tokens a sequence occupies in the KV cache. */
function footprint(sequence: Sequence): number {
  return sequence.call.inputTokens + sequence.generated;
}
