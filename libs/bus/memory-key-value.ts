import type { Clock } from "#libs/clock/index.ts";
import type { KeyValue, KeyValueOptions, Subscription } from "./bus.ts";
import { KEYS_MAX } from "./limits.ts";

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

  constructor(clock: Clock, options: KeyValueOptions) {
    this.#clock = clock;
    this.#ttlMs = options.ttlMs ?? 0;
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#live(key)?.value);
  }

  put(key: string, value: Uint8Array): Promise<void> {
    const untilMs = this.#ttlMs > 0 ? this.#clock.monotonicMs() + this.#ttlMs : Number.POSITIVE_INFINITY;
    this.#held.delete(key);
    this.#held.set(key, { value, untilMs });
    if (this.#held.size > KEYS_MAX) this.#held.delete(this.#held.keys().next().value!);
    this.#tell(key, value);
    return Promise.resolve();
  }

  delete(key: string): Promise<void> {
    if (this.#held.delete(key)) this.#tell(key, undefined);
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
      this.#held.delete(key);
      return undefined;
    }
    return held;
  }

  #tell(key: string, value: Uint8Array | undefined): void {
    queueMicrotask(() => {
      for (const watcher of this.#watchers) watcher(key, value);
    });
  }
}
