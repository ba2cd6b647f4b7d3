import { crc32c, locateBitFlip } from "./crc32c.ts";

/** First bytes of every segment. */
export const SEGMENT_MAGIC = Buffer.from("SBXOUT1\n", "latin1");
/** length u32, CRC32C u32, sequence u64; all little-endian. The CRC covers length, sequence and payload. */
export const FRAME_HEADER_BYTES = 16;
/** A record is a few hundred bytes; a length beyond this is damage. */
export const FRAME_PAYLOAD_MAX_BYTES = 1024 * 1024;
/** A sequence further ahead than this is damage. */
const SEQUENCE_JUMP_MAX = 1 << 24;
const TWO_32 = 4294967296;

/** Fills the 16 header bytes before a payload of `length` bytes that already lies behind them. */
export function sealFrame(buffer: Buffer, at: number, length: number, sequence: number): void {
  writeUint32(buffer, at, length);
  writeUint32(buffer, at + 8, (sequence % TWO_32) | 0);
  writeUint32(buffer, at + 12, Math.floor(sequence / TWO_32));
  writeUint32(buffer, at + 4, frameCrc(buffer, at, length));
}

/** What a scan found wrong. */
export interface Damage {
  /** repaired: one flipped bit, put right. lost: bytes that hold no readable record. torn: an unfinished end. */
  readonly kind: "repaired" | "lost" | "torn";
  /** Offset in the segment. */
  readonly at: number;
  readonly bytes: number;
}

/** Receives the frames of a scan in order; `false` stops it. `end` is the offset behind the frame. */
export type FrameVisitor = (sequence: number, payload: Uint8Array, end: number) => boolean | void;

/**
 * Walks the frames of `data` from offset `from`. A single flipped bit is repaired in place (CRC32C names its position),
 * what cannot be read is skipped up to the next whole frame. Sequences ascend from above `after`.
 * Returns what was damaged, in order; an unreadable end is `torn`.
 */
export function scanFrames(data: Buffer, from: number, after: number, visit: FrameVisitor): readonly Damage[] {
  const damages: Damage[] = [];
  let at = from;
  let last = after;
  while (at < data.length) {
    let size = validFrame(data, at, last);
    if (size === 0 && repairFrame(data, at, last)) {
      damages.push({ kind: "repaired", at, bytes: 1 });
      size = validFrame(data, at, last);
    }
    if (size === 0) {
      const next = nextValidFrame(data, at + 1, last);
      damages.push({ kind: next < 0 ? "torn" : "lost", at, bytes: (next < 0 ? data.length : next) - at });
      if (next < 0) break;
      at = next;
      continue;
    }
    const sequence = sequenceAt(data, at);
    last = Math.max(last, sequence);
    const payload = data.subarray(at + FRAME_HEADER_BYTES, at + size);
    at += size;
    if (visit(sequence, payload, at) === false) break;
  }
  return damages;
}

/** Size of the whole frame at `at`, or 0 when there is none. A sequence seen before is valid too: a rewritten tail repeats some. */
function validFrame(data: Buffer, at: number, last: number): number {
  if (at + FRAME_HEADER_BYTES > data.length) return 0;
  const length = readUint32(data, at);
  if (length === 0 || length > FRAME_PAYLOAD_MAX_BYTES || at + FRAME_HEADER_BYTES + length > data.length) return 0;
  const sequence = sequenceAt(data, at);
  if (sequence > last + SEQUENCE_JUMP_MAX) return 0;
  if (frameCrc(data, at, length) !== readUint32(data, at + 4)) return 0;
  return FRAME_HEADER_BYTES + length;
}

function nextValidFrame(data: Buffer, from: number, last: number): number {
  for (let at = from; at + FRAME_HEADER_BYTES < data.length; at++) {
    if (validFrame(data, at, last) > 0) return at;
  }
  return -1;
}

/** Puts one flipped bit right: in the CRC, in what it covers, or in the length (which is tried bit by bit). */
function repairFrame(data: Buffer, at: number, last: number): boolean {
  if (at + FRAME_HEADER_BYTES > data.length) return false;
  const stored = readUint32(data, at);
  if (repairCovered(data, at, stored, last)) return true;
  for (let bit = 0; bit < 32; bit++) {
    writeUint32(data, at, (stored ^ (1 << bit)) >>> 0);
    if (validFrame(data, at, last) > 0) return true;
  }
  writeUint32(data, at, stored);
  return false;
}

function repairCovered(data: Buffer, at: number, length: number, last: number): boolean {
  if (length === 0 || length > FRAME_PAYLOAD_MAX_BYTES || at + FRAME_HEADER_BYTES + length > data.length) return false;
  const syndrome = (frameCrc(data, at, length) ^ readUint32(data, at + 4)) >>> 0;
  if (syndrome === 0) return false;
  if ((syndrome & (syndrome - 1)) === 0) {
    writeUint32(data, at + 4, (readUint32(data, at + 4) ^ syndrome) >>> 0);
    return validFrame(data, at, last) > 0;
  }
  const bit = locateBitFlip(syndrome, length + 12);
  if (bit < 0) return false;
  const covered = bit >>> 3;
  const byte = at + (covered < 4 ? covered : covered + 4);
  data[byte] = data[byte]! ^ (1 << (bit & 7));
  if (validFrame(data, at, last) > 0) return true;
  data[byte] = data[byte]! ^ (1 << (bit & 7));
  return false;
}

/** CRC over the length, then sequence and payload: everything but the CRC itself. */
function frameCrc(data: Buffer, at: number, length: number): number {
  return crc32c(data, at + 8, at + FRAME_HEADER_BYTES + length, crc32c(data, at, at + 4));
}

function sequenceAt(data: Buffer, at: number): number {
  return readUint32(data, at + 12) * TWO_32 + readUint32(data, at + 8);
}

function readUint32(data: Buffer, at: number): number {
  return (data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24)) >>> 0;
}

function writeUint32(data: Buffer, at: number, value: number): void {
  data[at] = value & 0xff;
  data[at + 1] = (value >>> 8) & 0xff;
  data[at + 2] = (value >>> 16) & 0xff;
  data[at + 3] = (value >>> 24) & 0xff;
}
