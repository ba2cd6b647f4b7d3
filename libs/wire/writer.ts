/** Strings up to this length are copied unit by unit: shorter than a call into the runtime. */
const SHORT_STRING = 48;

/** A UTF-16 unit takes at most this many bytes of UTF-8. */
export const UTF8_PER_UNIT = 3;

/** Tag and length of one string or bytes take at most this. */
export const FIELD_BYTES = 8;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

let buffer: Buffer = Buffer.alloc(0);
let at = 0;

/**
 * Fields in protobuf's wire format, for messages written so often that a general codec is too dear (about ten times). One
 * message at a time: the caller provides a buffer that is large enough, and knows the field numbers. Defaults are not written.
 */
export function beginMessage(target: Buffer, offset: number): void {
  buffer = target;
  at = offset;
}

/** Offset behind what was written since `beginMessage`. */
export function endMessage(): number {
  return at;
}

function tag(field: number, type: number): void {
  const value = (field << 3) | type;
  if (value < 0x80) {
    buffer[at] = value;
    at += 1;
  } else {
    buffer[at] = (value & 0x7f) | 0x80;
    buffer[at + 1] = value >>> 7;
    at += 2;
  }
}

function varint(value: number): void {
  const into = buffer;
  let to = at;
  let rest = value;
  while (rest >= 0x80000000) {
    into[to++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    into[to++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  into[to++] = rest;
  at = to;
}

/** An unsigned integer below 2^53, or an enum. */
export function uint(field: number, value: number): void {
  if (value === 0) return;
  tag(field, VARINT);
  varint(value);
}

export function bool(field: number, value: boolean): void {
  if (value) uint(field, 1);
}

/** An int32, which may be negative. */
export function int32(field: number, value: number): void {
  if (value < 0) int64(field, BigInt(value));
  else uint(field, value);
}

/** An int64 or uint64. */
export function int64(field: number, value: bigint): void {
  // What is safe as a number is written as one: arithmetic on bigints is slow, and rounding leaves no larger one looking safe.
  const plain = Number(value);
  if (plain === 0) return;
  tag(field, VARINT);
  if (plain > 0 && plain <= Number.MAX_SAFE_INTEGER) return varint(plain);
  let rest = BigInt.asUintN(64, value);
  while (rest >= 0x80n) {
    buffer[at++] = Number(rest & 0x7fn) | 0x80;
    rest >>= 7n;
  }
  buffer[at++] = Number(rest);
}

export function double(field: number, value: number): void {
  if (value === 0) return;
  tag(field, FIXED64);
  at = buffer.writeDoubleLE(value, at);
}

export function text(field: number, value: string): void {
  if (value.length !== 0) element(field, value);
}

/** A string of a list: written even when it is empty. */
export function element(field: number, value: string): void {
  tag(field, BYTES);
  const length = value.length;
  if (length <= SHORT_STRING) {
    const into = buffer;
    const start = at + 1;
    let index = 0;
    for (; index < length; index++) {
      const unit = value.charCodeAt(index);
      if (unit >= 0x80) break;
      into[start + index] = unit;
    }
    if (index === length) {
      into[at] = length;
      at = start + length;
      return;
    }
  }
  varint(Buffer.byteLength(value));
  at += buffer.write(value, at);
}

export function bytes(field: number, value: Uint8Array): void {
  if (value.length === 0) return;
  tag(field, BYTES);
  varint(value.length);
  raw(value);
}

/** Bytes that are in wire format already. */
export function raw(value: Uint8Array): void {
  buffer.set(value, at);
  at += value.length;
}

/** Entries of a map of strings. */
export function textMap(field: number, values: Readonly<Record<string, string>>): void {
  for (const key in values) {
    const start = openMessage(field);
    text(1, key);
    text(2, values[key]!);
    closeMessage(start);
  }
}

/** Begins a message inside; what it returns ends it. `lengthBytes`: how many its length is going to take, as far as is known. */
export function openMessage(field: number, lengthBytes = 1): number {
  tag(field, BYTES);
  const start = at;
  at += lengthBytes;
  return start;
}

/** Puts the length of what was written since into its place, moving that where `lengthBytes` (as at its beginning) were not right. */
export function closeMessage(start: number, lengthBytes = 1): void {
  const length = at - start - lengthBytes;
  const size = length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x200000 ? 3 : 4;
  if (size !== lengthBytes) buffer.copyWithin(start + size, start + lengthBytes, at);
  at = start;
  varint(length);
  at += length;
}
