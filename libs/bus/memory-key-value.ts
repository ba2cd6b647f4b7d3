import type { Clock } from "#libs/clock/index.ts";
import type { KeyValue, KeyValueOptions, Subscription } from "./bus.ts";
import { KEYS_MAX } from "./limits.ts";
import { busUnavailable } from "./unavailable.ts";

interface Held {
  readonly value: Uint8Array;
  readonly untilMs: number;
}

type Watcher = (key: string, value: Uint8Array | undefined) => void;

/** A bucket in memory. A value that outlives its time is gone for readers; watchers are not told. */
export class MemoryKeyValue implements KeyValue {
  readonly #held = new Map<string, Held>();
  readonly #watchers = new Set<Watcher>();
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(clock: Clock, options: KeyValueOptions) {
    this.#clock = clock;
    this.#ttlMs = options.ttlMs ?? 0;
    this.#maxBytes = options.maxBytes ?? Number.POSITIVE_INFINITY;
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#live(key)?.value);
  }

  put(key: string, value: Uint8Array): Promise<void> {
    this.#expire();
    const before = this.#held.get(key)?.value.length ?? 0;
    if (this.#bytes - before + value.length > this.#maxBytes) return Promise.reject(busUnavailable("the bucket is full"));
    const untilMs = this.#ttlMs > 0 ? this.#clock.monotonicMs() + this.#ttlMs : Number.POSITIVE_INFINITY;
    this.#drop(key);
    this.#held.set(key, { value, untilMs });
    this.#bytes += value.length;
    if (this.#held.size > KEYS_MAX) this.#drop(this.#held.keys().next().value!);
    this.#tell(key, value);
    return Promise.resolve();
  }

  async create(key: string, value: Uint8Array): Promise<boolean> {
    if (this.#live(key) !== undefined) return false;
    await this.put(key, value);
    return true;
  }

  delete(key: string): Promise<void> {
    if (this.#drop(key)) this.#tell(key, undefined);
    return Promise.resolve();
  }

  watch(handler: Watcher): Subscription {
    let open = true;
    const watcher: Watcher = (key, value) => {
      if (open) handler(key, value);
    };
    const present = [...this.#held.keys()];
    queueMicrotask(() => {
      for (const key of present) {
        const held = this.#live(key);
        if (held) watcher(key, held.value);
      }
      if (open) this.#watchers.add(watcher);
    });
    return {
      close: () => {
        open = false;
        this.#watchers.delete(watcher);
      },
    };
  }

  #live(key: string): Held | undefined {
    const held = this.#held.get(key);
    if (held && held.untilMs <= this.#clock.monotonicMs()) {
      this.#drop(key);
      return undefined;
    }
    return held;
  }

  #drop(key: string): boolean {
    this.#bytes -= this.#held.get(key)?.value.length ?? 0;
    return this.#held.delete(key);
  }

  /** Values stand in the order of their time. */
  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [key, { untilMs }] of this.#held) {
      if (untilMs > nowMs) return;
      this.#drop(key);
    }
  }

  #tell(key: string, value: Uint8Array | undefined): void {
    queueMicrotask(() => {
      for (const watcher of this.#watchers) watcher(key, value);
    });
  }
}
