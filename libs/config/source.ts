import type { Config } from "./model.ts";

/** The configuration in force. A reload swaps `current` whole and then tells the listeners. */
export interface ConfigSource {
  readonly current: Config;
  /** Returns a function that ends the subscription. */
  onChange(listener: (config: Config) => void): () => void;
}
