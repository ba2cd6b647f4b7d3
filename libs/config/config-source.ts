import type { Config } from "./model.ts";
import type { ConfigSource } from "./source.ts";

/** A configuration source whose owner may swap it. */
export interface SwappableConfigSource extends ConfigSource {
  /** Puts `config` in force whole, then tells the listeners in the order they came. What one throws does not keep it from the others. */
  swap(config: Config): void;
}

/** A source that starts with `initial`. */
export function createConfigSource(initial: Config): SwappableConfigSource {
  let current = initial;
  const listeners = new Set<(config: Config) => void>();
  return {
    get current() {
      return current;
    },
    onChange(listener) {
      const own = (config: Config): void => listener(config);
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    swap(config) {
      current = config;
      const failures: unknown[] = [];
      for (const listener of listeners) {
        try {
          listener(config);
        } catch (error) {
          failures.push(error);
        }
      }
      if (failures.length > 0) throw new AggregateError(failures, "listeners failed on a new configuration");
    },
  };
}
