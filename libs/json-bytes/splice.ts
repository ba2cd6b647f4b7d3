import { FIELD_STRIDE } from "./scan.ts";

/** Extents as `scanTopLevel` returns them, or the same numbers from the wire. */
export type Fields = ArrayLike<number>;

/** Offset of the member called `name` within `fields` (its keyStart entry), or -1 when the object has none. `name` is ASCII. */
export function findField(bytes: Uint8Array, fields: Fields, name: string): number {
  const length = name.length;
  for (let member = 0; member < fields.length; member += FIELD_STRIDE) {
    const start = fields[member]!;
    if (fields[member + 1]! - start !== length) continue;
    let same = 0;
    while (same < length && bytes[start + same] === name.charCodeAt(same)) same++;
    if (same === length) return member;
  }
  return -1;
}

/** The raw JSON of a member's value, or undefined when the object has no such member. A view, not a copy. */
export function fieldValue(bytes: Uint8Array, fields: Fields, name: string): Uint8Array | undefined {
  const member = findField(bytes, fields, name);
  return member < 0 ? undefined : bytes.subarray(fields[member + 2]!, fields[member + 3]!);
}

/**
 * Copies an object with some members replaced or added (value = the raw JSON), or removed (null); the rest stays byte for
 * byte. Names are ASCII without characters that JSON escapes. Removing what is not there does nothing. Added members come last.
 */
export function spliceTopLevel(bytes: Uint8Array, fields: Fields, edits: ReadonlyMap<string, Uint8Array | null>): Uint8Array {
  const members = fields.length / FIELD_STRIDE;
  const changes: (Uint8Array | null | undefined)[] = Array.from({ length: members });
  const added: [string, Uint8Array][] = [];
  for (const [name, value] of edits) {
    const member = findField(bytes, fields, name);
    if (member >= 0) changes[member / FIELD_STRIDE] = value;
    else if (value !== null) added.push([name, value]);
  }
  const pieces = new Pieces(bytes);
  if (members === 0) {
    const open = bytes.indexOf(0x7b) + 1;
    pieces.keep(0, open);
    addMembers(pieces, added, false);
    pieces.keep(open, bytes.length);
    return pieces.join();
  }
  let lastKept = members - 1;
  while (lastKept >= 0 && changes[lastKept] === null) lastKept--;
  pieces.keep(0, fields[0]! - 1);
  for (let index = 0; index <= lastKept; index++) {
    const change = changes[index];
    if (change === null) continue;
    const at = index * FIELD_STRIDE;
    const next = index < lastKept ? fields[at + FIELD_STRIDE]! - 1 : fields[at + 3]!;
    if (change === undefined) {
      pieces.keep(fields[at]! - 1, next);
    } else {
      pieces.keep(fields[at]! - 1, fields[at + 2]!);
      pieces.insert(change);
      pieces.keep(fields[at + 3]!, next);
    }
  }
  addMembers(pieces, added, lastKept >= 0);
  pieces.keep(fields[(members - 1) * FIELD_STRIDE + 3]!, bytes.length);
  return pieces.join();
}

function addMembers(pieces: Pieces, added: readonly [string, Uint8Array][], following: boolean): void {
  let comma = following;
  for (const [name, value] of added) {
    pieces.insert(Buffer.from(`${comma ? "," : ""}"${name}":`, "latin1"));
    pieces.insert(value);
    comma = true;
  }
}

/** Collects extents of the source and new bytes, then copies once. Neighbouring extents are merged. */
class Pieces {
  readonly #source: Uint8Array;
  readonly #parts: Uint8Array[] = [];
  #from = 0;
  #to = 0;
  #length = 0;

  constructor(source: Uint8Array) {
    this.#source = source;
  }

  keep(from: number, to: number): void {
    if (from === this.#to) {
      this.#to = to;
      return;
    }
    this.#flush();
    this.#from = from;
    this.#to = to;
  }

  insert(bytes: Uint8Array): void {
    const at = this.#to;
    this.#flush();
    this.#from = at;
    this.#to = at;
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  join(): Uint8Array {
    this.#flush();
    const out = Buffer.allocUnsafe(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  #flush(): void {
    if (this.#to === this.#from) return;
    this.#parts.push(this.#source.subarray(this.#from, this.#to));
    this.#length += this.#to - this.#from;
  }
}
