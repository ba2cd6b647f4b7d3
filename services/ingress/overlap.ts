/**
 * Characters that must be repeated before a repetition counts as one: engines that continue a text exactly repeat nothing, so a
 * shorter match is more likely to be the answer's own wording.
 */
export const OVERLAP_MIN_CHARS = 16;

/**
 * Takes from a continuation what repeats the end of the delivered text (or all of it, from a backend that began anew). Text is
 * held back only while it could still be such a repetition.
 */
export class Overlap {
  readonly #delivered: string;
  #held = "";
  #open: boolean;

  constructor(delivered: string) {
    this.#delivered = delivered;
    this.#open = delivered.length >= OVERLAP_MIN_CHARS;
  }

  /** What of the next `text` is new and certain, held text before it included. */
  take(text: string): string {
    if (!this.#open) return text;
    this.#held += text;
    return this.#isPending() ? "" : this.rest();
  }

  /** What is held, without its repetition; nothing is held back after this. */
  rest(): string {
    const held = this.#held;
    this.#open = false;
    this.#held = "";
    for (let length = Math.min(held.length, this.#delivered.length); length >= OVERLAP_MIN_CHARS; length--) {
      if (this.#delivered.endsWith(held.slice(0, length))) return held.slice(length);
    }
    return held;
  }

  /** Whether the held text stands in the delivered one with more behind it, so that it may yet turn out to be its end. */
  #isPending(): boolean {
    const last = this.#delivered.length - Math.max(OVERLAP_MIN_CHARS, this.#held.length + 1);
    const at = this.#delivered.indexOf(this.#held);
    return at >= 0 && at <= last;
  }
}
