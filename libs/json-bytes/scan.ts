/** Members a scanned object may have. A request has about forty known fields; more is somebody probing. */
const MEMBERS_MAX = 256;

/** Numbers per member in a field table: keyStart, keyEnd, valueStart, valueEnd. */
export const FIELD_STRIDE = 4;

/** Bytes of a string walked by hand before the native search is called: short strings and dense escapes are not worth its call. */
const STRING_WALK_BYTES = 48;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/**
 * Extents of the top-level members of a JSON object, four byte offsets each: keyStart, keyEnd (without quotes), valueStart,
 * valueEnd. Undefined when the bytes are no object, a key repeats or holds an escape, or there are more than 256 members:
 * whoever needs the members then parses the whole.
 *
 * It finds structure and does not validate: for bytes that `JSON.parse` accepts the extents are exact; for others they are
 * in bounds and ascending, and nothing more is promised.
 */
export function scanTopLevel(bytes: Uint8Array): Uint32Array | undefined {
  const end = bytes.length;
  let at = skipSpace(bytes, 0);
  if (bytes[at] !== OPEN_BRACE) return undefined;
  at = skipSpace(bytes, at + 1);
  const found: number[] = [];
  if (bytes[at] === CLOSE_BRACE) return skipSpace(bytes, at + 1) === end ? new Uint32Array(0) : undefined;
  for (;;) {
    if (bytes[at] !== QUOTE) return undefined;
    const keyStart = at + 1;
    const keyEnd = skipKey(bytes, keyStart);
    if (keyEnd < 0 || repeats(bytes, found, keyStart, keyEnd)) return undefined;
    at = skipSpace(bytes, keyEnd + 1);
    if (bytes[at] !== COLON) return undefined;
    const valueStart = skipSpace(bytes, at + 1);
    const valueEnd = skipValue(bytes, valueStart);
    if (valueEnd <= valueStart) return undefined;
    if (found.length === MEMBERS_MAX * FIELD_STRIDE) return undefined;
    found.push(keyStart, keyEnd, valueStart, valueEnd);
    at = skipSpace(bytes, valueEnd);
    if (bytes[at] === CLOSE_BRACE) return skipSpace(bytes, at + 1) === end ? Uint32Array.from(found) : undefined;
    if (bytes[at] !== COMMA) return undefined;
    at = skipSpace(bytes, at + 1);
  }
}

/**
 * Extents of the elements of a JSON array at [`from`, `to`), two byte offsets each: start, end. Undefined when there is no array, or
 * one of numbers or literals. Like {@link scanTopLevel} it finds structure and does not validate.
 */
export function scanElements(bytes: Uint8Array, from: number, to: number): number[] | undefined {
  if (bytes[from] !== OPEN_BRACKET) return undefined;
  const found: number[] = [];
  let at = skipSpace(bytes, from + 1);
  if (bytes[at] === CLOSE_BRACKET) return found;
  for (;;) {
    const first = bytes[at];
    if (first !== QUOTE && first !== OPEN_BRACE && first !== OPEN_BRACKET) return undefined;
    const end = skipValue(bytes, at);
    if (end < 0 || end > to) return undefined;
    found.push(at, end);
    at = skipSpace(bytes, end);
    if (bytes[at] === CLOSE_BRACKET) return found;
    if (bytes[at] !== COMMA) return undefined;
    at = skipSpace(bytes, at + 1);
  }
}

function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length) {
    const byte = bytes[at]!;
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break;
    at++;
  }
  return at;
}

/** Offset of the key's closing quote, or -1 when it has none or holds an escape. */
function skipKey(bytes: Uint8Array, from: number): number {
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) return -1;
  }
  return -1;
}

function repeats(bytes: Uint8Array, found: readonly number[], keyStart: number, keyEnd: number): boolean {
  const length = keyEnd - keyStart;
  for (let member = 0; member < found.length; member += FIELD_STRIDE) {
    const start = found[member]!;
    if (found[member + 1]! - start !== length) continue;
    let same = 0;
    while (same < length && bytes[start + same] === bytes[keyStart + same]) same++;
    if (same === length) return true;
  }
  return false;
}

/** Offset behind the string whose first character is at `from`, or -1 when it does not end. */
function skipString(bytes: Uint8Array, from: number): number {
  let at = from;
  for (;;) {
    const walkEnd = Math.min(bytes.length, at + STRING_WALK_BYTES);
    while (at < walkEnd) {
      const byte = bytes[at]!;
      if (byte === QUOTE) return at + 1;
      at += byte === BACKSLASH ? 2 : 1;
    }
    const quote = bytes.indexOf(QUOTE, at);
    if (quote < 0) return -1;
    let slashes = 0;
    while (quote - 1 - slashes >= at && bytes[quote - 1 - slashes] === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

/** Offset behind the value that starts at `from`, or -1 when it does not end. */
function skipValue(bytes: Uint8Array, from: number): number {
  const first = bytes[from];
  if (first === QUOTE) return skipString(bytes, from + 1);
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return skipScalar(bytes, from);
  let depth = 0;
  let at = from;
  while (at < bytes.length) {
    const byte = bytes[at]!;
    if (byte === QUOTE) {
      at = skipString(bytes, at + 1);
      if (at < 0) return -1;
      continue;
    }
    at++;
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
    else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && --depth === 0) return at;
  }
  return -1;
}

/** Offset behind a number or literal: it ends at a comma, a closing brace or white space. */
function skipScalar(bytes: Uint8Array, from: number): number {
  let at = from;
  while (at < bytes.length) {
    const byte = bytes[at]!;
    if (byte === COMMA || byte === CLOSE_BRACE || byte <= 0x20) break;
    at++;
  }
  return at;
}
