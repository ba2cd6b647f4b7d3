/** Castagnoli's polynomial, reflected (RFC 3720, appendix B.4). Node's own crc32 is the IEEE polynomial. */
const POLYNOMIAL = 0x82f63b78;

/** Eight tables of 256: `TABLES[256 * k + byte]` is a byte's effect after k more zero bytes (slicing-by-8). */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256]!;
    tables[at] = (before >>> 8) ^ tables[before & 0xff]!;
  }
  return tables;
}

/** CRC32C of `bytes[from, to)`, continuing from `crc` (0 at the start); an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array, from: number, to: number, crc = 0): number {
  const t = TABLES;
  let c = ~crc;
  let at = from;
  for (; at + 8 <= to; at += 8) {
    c ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    c =
      t[1792 + (c & 0xff)]! ^
      t[1536 + ((c >>> 8) & 0xff)]! ^
      t[1280 + ((c >>> 16) & 0xff)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + bytes[at + 4]!]! ^
      t[512 + bytes[at + 5]!]! ^
      t[256 + bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!;
  }
  for (; at < to; at++) c = t[(c ^ bytes[at]!) & 0xff]! ^ (c >>> 8);
  return ~c >>> 0;
}

/**
 * Where one flipped bit in `length` bytes explains `syndrome` (stored CRC xor computed CRC): the bit's index, counted from
 * the lowest bit of the first byte, or -1. The code's distance is 4 up to 2^31 bits, so the answer is the only one.
 */
export function locateBitFlip(syndrome: number, length: number): number {
  const wanted = syndrome | 0;
  const states = new Int32Array(8);
  for (let bit = 0; bit < 8; bit++) states[bit] = TABLES[1 << bit]!;
  for (let byte = length - 1; byte >= 0; byte--) {
    for (let bit = 0; bit < 8; bit++) {
      const state = states[bit]!;
      if (state === wanted) return byte * 8 + bit;
      states[bit] = (state >>> 8) ^ TABLES[state & 0xff]!;
    }
  }
  return -1;
}
