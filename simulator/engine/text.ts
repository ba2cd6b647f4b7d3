import { crc32 } from "node:zlib";

/** Pseudo-random numbers from a 32-bit seed (mulberry32), cheap enough for every token. */
export class SeedStream {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  }

  int(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** Standard normal (Box-Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
  }
}

const WORDS = (
  "the a every this our one that some river signal engine garden window letter bridge morning planet number story method " +
  "light harbour train paper copper forest market winter pattern answer moves turns keeps brings shows holds follows opens " +
  "finds makes carries reaches slowly quietly often again together almost clearly never into under over between beyond with " +
  "without towards bright small quiet steady distant careful café naïve façade 日本 水面 🚂 Straße"
).split(" ");
const PIECES = WORDS.map((word) => ` ${word}`);
const OPENERS = WORDS.slice(0, 48).map((word) => word[0]!.toUpperCase() + word.slice(1));

/** Words of a sentence before its full stop. */
const SENTENCE_WORDS = 11;

const GREETING = ["Hello", "!", " I", " am", " a", " simulated", " model", ":", " nothing", " here", " costs", " anything", "."];
const GREETING_END = [" How", " can", " I", " help", " you", " today", "? "];
const GREETS = /^\W*(hello|hi|hey|hallo|bonjour|good (morning|evening|afternoon))\b[^\n]{0,40}$/i;

/** `[sum:xxxxxxxx]` of a text: CRC-32 (zlib's) of its UTF-8 bytes, eight hex digits. */
export function sumToken(text: string): string {
  return `[sum:${crc32(text).toString(16).padStart(8, "0")}]`;
}

/** Whether an answer still carries the checksum of the text before it. `absent`: cut, limited, or not a plain text answer. */
export function checkSum(text: string): "ok" | "bad" | "absent" {
  const found = /\[sum:([0-9a-f]{8})\]$/.exec(text);
  if (!found) return "absent";
  return sumToken(text.slice(0, found.index)) === found[0] ? "ok" : "bad";
}

/**
 * The answer to a prompt as tokens, `length` of them (at least 3): the same seed gives the same text in every dialect, and the
 * last token is the checksum of all before it. A greeting gets a friendly sentence instead of `length` tokens.
 */
export function answerPieces(seed: number, length: number, prompt: string): string[] {
  const pieces = GREETS.test(prompt) ? [...GREETING, ...GREETING_END] : sentences(new SeedStream(seed), Math.max(3, length) - 1);
  pieces.push(sumToken(pieces.join("")));
  return pieces;
}

/** `count` tokens of hidden or shown reasoning. */
export function reasoningPieces(seed: number, count: number): string[] {
  return count <= 0 ? [] : sentences(new SeedStream(seed ^ 0x5bd1e995), count);
}

function sentences(random: SeedStream, count: number): string[] {
  const pieces: string[] = [];
  let inSentence = 0;
  while (pieces.length < count) {
    const last = pieces.length === count - 1;
    if (last && inSentence === 0) {
      pieces.push("Done. ");
    } else if (inSentence > 0 && (last || inSentence >= SENTENCE_WORDS)) {
      pieces.push(". ");
      inSentence = 0;
    } else {
      pieces.push(inSentence === 0 ? OPENERS[random.int(OPENERS.length)]! : PIECES[random.int(PIECES.length)]!);
      inSentence++;
    }
  }
  return pieces;
}

/** Characters of one token when any text is cut into tokens. */
const PIECE_CHARACTERS = 4;

/** Cuts any text into tokens of four characters, never inside a surrogate pair; joined they give the text again. */
export function splitPieces(text: string): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length;) {
    let end = at + PIECE_CHARACTERS;
    if ((text.charCodeAt(end) & 0xfc00) === 0xdc00) end++;
    pieces.push(text.slice(at, end));
    at = end;
  }
  return pieces;
}
