import assert from "node:assert/strict";
import type { Clock, Random } from "#libs/clock/index.ts";
import type { FileInfo, OutboxFile, OutboxFiles } from "./files.ts";

interface Node {
  /** Everything written. */
  content: Buffer;
  /** This many of its bytes survive the machine. */
  durableBytes: number;
  /** This many were reported durable: whole frames, where a flipped bit must be noticed. */
  soundBytes: number;
  /** Whether the name itself survives. */
  durableName: boolean;
}

/** How often the disk misbehaves, 0..1 each. */
export interface FaultRates {
  /** write(2) fails after some of the bytes. */
  readonly write: number;
  /** fdatasync(2) fails, and the system drops the pages. */
  readonly sync: number;
}

/**
 * A folder in memory that forgets like a machine that loses power: bytes that no fdatasync covered go missing from a random
 * place on, the last write may be torn into garbage, names that no directory sync covered may be gone or back.
 */
export class FaultFiles implements OutboxFiles {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #rates: FaultRates;
  #nodes = new Map<string, Node>();
  #removed = new Map<string, Node>();
  /** Set when the process or machine died: nothing answers any more. */
  #dead = false;

  constructor(clock: Clock, random: Random, rates: FaultRates = { write: 0, sync: 0 }) {
    this.#clock = clock;
    this.#random = random;
    this.#rates = rates;
  }

  list(): readonly FileInfo[] {
    return [...this.#nodes].map(([name, node]) => ({ name, size: node.content.length }));
  }

  create(name: string): OutboxFile {
    const node: Node = { content: Buffer.alloc(0), durableBytes: 0, soundBytes: 0, durableName: false };
    this.#nodes.set(name, node);
    let closed = false;
    const open = (): Node => {
      assert.ok(!closed, `${name} is closed`);
      return node;
    };
    return {
      write: (bytes) => this.#write(open(), bytes),
      sync: (callback) => this.#sync(open(), callback),
      truncate: (size) => truncate(open(), size),
      close: () => {
        open();
        closed = true;
      },
    };
  }

  read(name: string, position: number, length: number): Buffer {
    return Buffer.from(this.#nodes.get(name)!.content.subarray(position, position + length));
  }

  truncate(name: string, size: number): void {
    truncate(this.#nodes.get(name)!, size);
  }

  sync(name: string, callback: (error: Error | undefined) => void): void {
    this.#sync(this.#nodes.get(name)!, callback);
  }

  remove(name: string): void {
    this.#removed.set(name, this.#nodes.get(name)!);
    this.#nodes.delete(name);
  }

  syncDirectory(callback: (error: Error | undefined) => void): void {
    const names = [...this.#nodes.values()];
    const removed = this.#removed;
    this.#removed = new Map();
    this.#clock.after(this.#random.next() * 3, () => {
      if (this.#dead) return;
      for (const node of names) node.durableName = true;
      removed.clear();
      callback(undefined);
    });
  }

  release(): void {}

  /** The process dies: everything written is still there, and no safer than before. */
  kill(): FaultFiles {
    this.#dead = true;
    const next = new FaultFiles(this.#clock, this.#random, this.#rates);
    for (const [name, node] of this.#nodes) next.#nodes.set(name, { ...node });
    for (const [name, node] of this.#removed) next.#removed.set(name, { ...node });
    return next;
  }

  /** The power fails: returns the folder as the next boot finds it. */
  powerLoss(): FaultFiles {
    this.#dead = true;
    const next = new FaultFiles(this.#clock, this.#random, this.#rates);
    for (const [name, node] of [...this.#nodes, ...this.#removed]) {
      const isRemoved = this.#removed.has(name);
      if ((!node.durableName || isRemoved) && this.#random.next() < 0.5) continue;
      const content = this.#surviving(node);
      next.#nodes.set(name, { ...node, content, durableBytes: content.length, durableName: true });
    }
    return next;
  }

  /** Flips one random bit among the bytes that were durable; returns where, or undefined when there are none. */
  flipDurableBit(): { readonly name: string; readonly at: number } | undefined {
    const candidates = [...this.#nodes].filter(([, node]) => node.soundBytes > 0);
    if (candidates.length === 0) return undefined;
    const [name, node] = candidates[this.#random.int(candidates.length)]!;
    const at = this.#random.int(node.soundBytes);
    node.content[at] = node.content[at]! ^ (1 << this.#random.int(8));
    return { name, at };
  }

  #write(node: Node, bytes: Uint8Array): void {
    const fails = this.#random.next() < this.#rates.write;
    const taken = fails ? bytes.subarray(0, this.#random.int(bytes.length)) : bytes;
    node.content = Buffer.concat([node.content, taken]);
    if (fails) throw new Error("ENOSPC: no space left on device");
  }

  #sync(node: Node, callback: (error: Error | undefined) => void): void {
    const length = node.content.length;
    const fails = this.#random.next() < this.#rates.sync;
    this.#clock.after(this.#random.next() * 5, () => {
      if (this.#dead) return;
      if (!fails) {
        node.durableBytes = Math.max(node.durableBytes, Math.min(length, node.content.length));
        node.soundBytes = node.durableBytes;
      }
      callback(fails ? new Error("EIO: i/o error") : undefined);
    });
  }

  #surviving(node: Node): Buffer {
    const loose = node.content.length - node.durableBytes;
    const kept = node.durableBytes + (loose > 0 ? this.#random.int(loose + 1) : 0);
    const content = Buffer.from(node.content.subarray(0, kept));
    if (kept > node.durableBytes && this.#random.next() < 0.5) {
      const torn = Math.max(node.durableBytes, kept - this.#random.int(512));
      if (this.#random.next() < 0.5) content.fill(0, torn);
      else this.#random.bytes(content.subarray(torn));
    }
    return content;
  }
}

function truncate(node: Node, size: number): void {
  node.content = Buffer.from(node.content.subarray(0, size));
  node.durableBytes = Math.min(node.durableBytes, size);
  node.soundBytes = Math.min(node.soundBytes, size);
}
