import type { Clock, Random } from "./clock.ts";

/** ASCII of the lower-case hexadecimal digits. */
const DIGITS = Buffer.from("0123456789abcdef");

/** Where the digits of an id's bytes stand in its text: two a byte, around four hyphens. */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/**
 * Draws UUIDv7s (RFC 9562): 48 bits of time, 74 random bits, ordered within one generator even in the same
 * millisecond because the 12 bits behind the time count up.
 */
export function createUuidV7(clock: Clock, random: Random): () => string {
  const pool = new Uint8Array(8 * 256);
  let poolAt = pool.length;
  // One flat text is cut from here: joining it digit by digit leaves a chain of twenty strings behind.
  const text = Buffer.from("00000000-0000-0000-0000-000000000000");
  const put = (index: number, byte: number): void => {
    const place = PLACES[index]!;
    text[place] = DIGITS[byte >>> 4]!;
    text[place + 1] = DIGITS[byte & 15]!;
  };
  let lastMs = 0;
  let counter = 0;
  return () => {
    if (poolAt === pool.length) {
      random.bytes(pool);
      poolAt = 0;
    }
    const nowMs = Math.floor(clock.now());
    if (nowMs > lastMs) {
      lastMs = nowMs;
      counter = pool[poolAt]! & 0x7f;
    } else if (++counter > 0xfff) {
      lastMs++;
      counter = 0;
    }
    const high = Math.floor(lastMs / 65536);
    const low = lastMs & 0xffff;
    const at = poolAt;
    poolAt += 8;
    put(0, (high >>> 24) & 0xff);
    put(1, (high >>> 16) & 0xff);
    put(2, (high >>> 8) & 0xff);
    put(3, high & 0xff);
    put(4, low >>> 8);
    put(5, low & 0xff);
    put(6, 0x70 | (counter >>> 8));
    put(7, counter & 0xff);
    put(8, 0x80 | (pool[at]! & 0x3f));
    for (let index = 1; index < 8; index++) put(8 + index, pool[at + index]!);
    return text.toString("latin1");
  };
}
