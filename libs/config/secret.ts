import { inspect } from "node:util";

/**
 * A secret, or a reference to one. Prints `[redacted]` in every form; the value leaves only through `reveal()`.
 * References (`${env:NAME}`, `${file:PATH}`) are resolved at the first `reveal()`, so validation never needs the value.
 */
export class Secret {
  readonly #resolve: () => string;
  #value: string | undefined;
  /** Where it comes from, for people: `env:NAME`, `file:PATH`, `literal`. */
  readonly #source: string;

  constructor(source: string, resolve: () => string) {
    this.#source = source;
    this.#resolve = resolve;
  }

  /** A secret whose value is at hand (tests, generated tokens). */
  static of(value: string): Secret {
    return new Secret("literal", () => value);
  }

  /** The value. Throws a SignalboxError that names the source when it cannot be resolved. */
  reveal(): string {
    return (this.#value ??= this.#resolve());
  }

  /** Where it comes from; never the value. */
  get source(): string {
    return this.#source;
  }

  toString(): string {
    return "[redacted]";
  }

  toJSON(): string {
    return "[redacted]";
  }

  [inspect.custom](): string {
    return "[redacted]";
  }
}
