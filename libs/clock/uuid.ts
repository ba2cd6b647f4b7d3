import type { Clock, Random } from "./clock.ts";

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/**
 * Draws UUIDv7s (RFC 9562): 48 bits of time, 74 random bits, ordered within one generator even in the same
 * millisecond because the 12 bits behind the time count up.
 */
export function createUuidV7(clock: Clock, random: Random): () => string {
  const pool = new Uint8Array(8 * 256);
  let poolAt = pool.length;
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
    return (
      HEX[(high >>> 24) & 0xff]! +
      HEX[(high >>> 16) & 0xff]! +
      HEX[(high >>> 8) & 0xff]! +
      HEX[high & 0xff]! +
      "-" +
      HEX[low >>> 8]! +
      HEX[low & 0xff]! +
      "-" +
      HEX[0x70 | (counter >>> 8)]! +
      HEX[counter & 0xff]! +
      "-" +
      HEX[0x80 | (pool[at]! & 0x3f)]! +
      HEX[pool[at + 1]!]! +
      "-" +
      HEX[pool[at + 2]!]! +
      HEX[pool[at + 3]!]! +
      HEX[pool[at + 4]!]! +
      HEX[pool[at + 5]!]! +
      HEX[pool[at + 6]!]! +
      HEX[pool[at + 7]!]!
    );
  };
}
