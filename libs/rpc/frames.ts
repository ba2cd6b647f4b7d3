import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Codec } from "#libs/wire/index.ts";

/** Tag of `repeated Frame frames = 1`, the only field of every batch message. */
const FRAMES_TAG = (1 << 3) | WireType.LengthDelimited;

/** Bytes collected in one tick before a batch goes out early. A single larger frame (a big body) is a batch of its own. */
const BATCH_MAX_BYTES = 1024 * 1024;

/** Bytes handed to the stream that it has not taken yet; beyond, the peer is not reading and the stream is given up. */
export const UNSENT_MAX_BYTES = 128 * 1024 * 1024;

/** Room a frame takes besides its payload, bytes: names, ids and numbers. A guess for the batch bound only. */
const FRAME_OVERHEAD_BYTES = 512;

/** Where batches go: a gRPC stream. `taken` is called when the stream wants more. */
export type WriteBatch = (batch: Buffer, taken: () => void) => void;

/**
 * Collects frames and writes them once per event-loop turn as one message: under load one write carries many frames, at
 * rest a frame waits for nothing but the turn's other events. The turn, not the microtask: a write per microtask costs about three
 * times the CPU with 64 attempts in flight (bench/micro/attempts.ts).
 */
export class FrameSender<F> {
  readonly #codec: Codec<F>;
  readonly #write: WriteBatch;
  #writer = new BinaryWriter();
  #pendingBytes = 0;
  #unsentBytes = 0;
  #scheduled = false;
  #closed = false;

  constructor(codec: Codec<F>, write: WriteBatch) {
    this.#codec = codec;
    this.#write = write;
  }

  /** Queues `frame`; `payloadBytes` is the size of the byte fields in it. */
  send(frame: F, payloadBytes = 0): void {
    if (this.#closed) return;
    this.#writer.uint32(FRAMES_TAG).fork();
    this.#codec.write(frame, this.#writer);
    this.#writer.join();
    this.#pendingBytes += payloadBytes + FRAME_OVERHEAD_BYTES;
    if (this.#pendingBytes >= BATCH_MAX_BYTES) this.flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#tick);
    }
  }

  /** Writes what is queued now. */
  flush(): void {
    if (this.#pendingBytes === 0 || this.#closed) return;
    const bytes = this.#writer.finish();
    // a writer that once held a large body would keep its memory for ever
    if (bytes.length > BATCH_MAX_BYTES) this.#writer = new BinaryWriter();
    this.#pendingBytes = 0;
    this.#unsentBytes += bytes.length;
    this.#write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), () => {
      this.#unsentBytes -= bytes.length;
    });
  }

  /** Whether the peer has stopped reading for too long. */
  get stuck(): boolean {
    return this.#unsentBytes > UNSENT_MAX_BYTES;
  }

  /** Drops what is queued and everything later. */
  close(): void {
    this.#closed = true;
  }

  readonly #tick = (): void => {
    this.#scheduled = false;
    this.flush();
  };
}

/** Reads a batch, frame by frame, in order. Throws on malformed bytes; frames before the fault have been handed over. */
export function readFrames<F>(codec: Codec<F>, batch: Uint8Array, onFrame: (frame: F) => void): void {
  // a plain view, so that byte fields are plain arrays too, not Buffers with other semantics of slice()
  const reader = new BinaryReader(new Uint8Array(batch.buffer, batch.byteOffset, batch.length));
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === FRAMES_TAG) {
      const length = reader.uint32();
      onFrame(codec.read(reader, reader.pos + length));
    } else {
      const wire = tag & 7;
      if (tag >>> 3 === 0 || wire > 5) throw new RangeError("illegal tag");
      reader.skip(wire, tag >>> 3);
    }
  }
}
