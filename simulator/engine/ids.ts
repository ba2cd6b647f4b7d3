import type { Random } from "#libs/clock/index.ts";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** Draws ids: a random start that stays, and a counter behind it, as long as providers' own. */
export class IdSource {
  readonly #base: string;
  readonly #hex: string;
  #count = 0;

  constructor(random: Random) {
    const bytes = random.bytes(new Uint8Array(32));
    this.#base = Array.from(bytes, (byte) => ALPHABET[byte % ALPHABET.length]).join("");
    this.#hex = Buffer.from(bytes).toString("hex");
  }

  /** `length` letters and digits, unique within this source. */
  alphanumeric(length: number): string {
    const tail = (++this.#count).toString(36);
    return this.#base.slice(0, length - tail.length) + tail;
  }

  /** `length` hex digits, unique within this source. */
  hex(length: number): string {
    const tail = (++this.#count).toString(16);
    return this.#hex.slice(0, length - tail.length) + tail;
  }

  /** The count alone. */
  number(): number {
    return ++this.#count;
  }
}
