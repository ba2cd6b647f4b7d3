import type pg from "pg";

/** PostgreSQL has no NUL in texts. */
export function withoutNul(text: string): string {
  return text.includes("\0") ? text.replaceAll("\0", "\ufffd") : text;
}

/** Bytes a buffer starts with: some hundred entries. */
const START_BYTES = 256 * 1024;
/** A number that fits two's complement of 32 bits needs no bigint. */
const INT32_MAX = 0x7fffffff;
const TWO_TO_32 = 4_294_967_296;
/** Bytes of one UTF-16 unit in UTF-8, at most. */
const UTF8_PER_UNIT = 3;
/** Strings up to this length are written unit by unit: shorter than a call into the runtime. */
const SHORT_STRING = 48;

/** Object ids of PostgreSQL's types (src/include/catalog/pg_type.dat). */
const OID = { int8: 20, text: 25 } as const;

/** Values in PostgreSQL's binary format, one behind the other. Each starts with its length, as in COPY rows and array elements. */
export class BinaryValues {
  #bytes = Buffer.allocUnsafeSlow(START_BYTES);
  #at = 0;

  /** What was written; valid until `reset`. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  /** Starts over in the same memory. */
  reset(): void {
    this.#at = 0;
  }

  /** Bytes as they are, without a length. */
  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** Two bytes without a length: a number of fields. */
  count16(value: number): void {
    this.#room(2);
    this.#at = this.#bytes.writeInt16BE(value, this.#at);
  }

  /** Four bytes without a length: a head's numbers. */
  count32(value: number): void {
    this.#room(4);
    this.#at = this.#bytes.writeInt32BE(value, this.#at);
  }

  int2(value: number): void {
    this.#room(6);
    this.#at = this.#bytes.writeInt32BE(2, this.#at);
    this.#at = this.#bytes.writeInt16BE(value, this.#at);
  }

  int8(value: number | bigint): void {
    this.#room(12);
    this.#at = this.#bytes.writeInt32BE(8, this.#at);
    if (typeof value === "bigint") this.#at = this.#bytes.writeBigInt64BE(value, this.#at);
    else {
      if (!Number.isSafeInteger(value)) throw new RangeError(`not a whole number: ${value}`);
      const high = Math.floor(value / TWO_TO_32);
      this.#at = this.#bytes.writeInt32BE(high, this.#at);
      this.#at = this.#bytes.writeUInt32BE(value >= 0 && value <= INT32_MAX ? value : value - high * TWO_TO_32, this.#at);
    }
  }

  float8(value: number): void {
    this.#room(12);
    this.#at = this.#bytes.writeInt32BE(8, this.#at);
    this.#at = this.#bytes.writeDoubleBE(value, this.#at);
  }

  bytea(value: Uint8Array): void {
    this.#room(4);
    this.#at = this.#bytes.writeInt32BE(value.length, this.#at);
    this.raw(value);
  }

  text(value: string): void {
    this.#room(4 + value.length * UTF8_PER_UNIT);
    const start = this.#at;
    const end = this.#utf8(value, start + 4);
    this.#bytes.writeInt32BE(end - start - 4, start);
    this.#at = end;
  }

  /** JSON text as jsonb: a version, then the text. */
  jsonb(value: string): void {
    this.#room(5 + value.length * UTF8_PER_UNIT);
    const start = this.#at;
    this.#bytes[start + 4] = 1;
    const end = this.#utf8(value, start + 5);
    this.#bytes.writeInt32BE(end - start - 4, start);
    this.#at = end;
  }

  #utf8(value: string, from: number): number {
    const bytes = this.#bytes;
    const { length } = value;
    if (length <= SHORT_STRING) {
      let index = 0;
      for (; index < length; index++) {
        const unit = value.charCodeAt(index);
        if (unit >= 0x80) break;
        bytes[from + index] = unit;
      }
      if (index === length) return from + length;
    }
    return from + bytes.write(value, from);
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + bytes));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
}

/**
 * A one-dimensional array as a query's parameter in the binary format (the driver sends Buffers as they are). Elements as texts and
 * escapes cost many times as much on both sides.
 */
function binaryArray<T>(oid: number, elements: readonly T[], write: (values: BinaryValues, element: T) => void): Buffer {
  const values = new BinaryValues();
  values.count32(elements.length === 0 ? 0 : 1);
  values.count32(0);
  values.count32(oid);
  if (elements.length > 0) {
    values.count32(elements.length);
    values.count32(1);
  }
  for (const element of elements) write(values, element);
  return values.bytes;
}

/** Texts as a parameter. PostgreSQL has no NUL in texts: it is replaced as in the columns of entries. */
export function texts(elements: readonly string[]): Buffer {
  return binaryArray(OID.text, elements, (values, element) => values.text(withoutNul(element)));
}

/** Integers as a parameter. */
export function integers(elements: readonly (number | bigint)[]): Buffer {
  return binaryArray(OID.int8, elements, (values, element) => values.int8(element));
}

const COPY_HEAD = Buffer.concat([Buffer.from("PGCOPY\n\u00ff\r\n\0", "latin1"), Buffer.alloc(8)]);
const COPY_END = -1;

/** Begins the rows of a binary COPY. */
export function copyHead(values: BinaryValues): void {
  values.raw(COPY_HEAD);
}

/** What the driver offers a query object during COPY; its types leave it out. */
interface CopyConnection {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

/** Bytes of one COPY message. */
const COPY_CHUNK_BYTES = 64 * 1024;

/** Sends rows (after {@link copyHead}) by `COPY ... FROM STDIN (FORMAT binary)`. Rejects with the server's error, and writes nothing then. */
export function copyIn(client: pg.ClientBase, sql: string, values: BinaryValues): Promise<void> {
  values.count16(COPY_END);
  return new Promise((resolve, reject) => {
    // The driver's contract for a query object: it calls these as the server's messages arrive, and wraps `callback` in its time-out.
    const query = {
      callback: (error?: Error | null) => (error ? reject(error) : resolve()),
      submit: (connection: CopyConnection) => connection.query(sql),
      handleCopyInResponse: (connection: CopyConnection) => {
        const { bytes } = values;
        for (let at = 0; at < bytes.length; at += COPY_CHUNK_BYTES) {
          connection.sendCopyFromChunk(bytes.subarray(at, Math.min(bytes.length, at + COPY_CHUNK_BYTES)));
        }
        connection.endCopyFrom();
      },
      handleCommandComplete: () => {},
      handleError: (error: Error) => query.callback(error),
      handleReadyForQuery: () => query.callback(null),
    };
    client.query(query as unknown as pg.Submittable);
  });
}
