/** Distinct warnings kept for one attempt; they travel in a response header. */
const WARNINGS_MAX = 16;

/** Longest warning, in characters: names in it may come from the caller. */
const WARNING_MAX_CHARS = 160;

/** Parameters that were clamped or dropped and answers that were cut, "name: what". Bounded, each once. */
export class Warnings {
  readonly #texts = new Set<string>();

  /** Notes that `what` happened to `name`. */
  add(name: string, what: string): void {
    if (this.#texts.size >= WARNINGS_MAX) return;
    this.#texts.add(`${name}: ${what}`.slice(0, WARNING_MAX_CHARS));
  }

  list(): string[] {
    return [...this.#texts];
  }
}
