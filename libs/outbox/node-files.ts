import * as fs from "node:fs";
import { join } from "node:path";
import { SignalboxError } from "#libs/errors/index.ts";
import { LOCK_NAME, releaseLock, takeLock } from "./folder-lock.ts";
import type { OutboxFile, OutboxFiles } from "./files.ts";

/** Outboxes one data folder can hold: one per process that uses it. */
const SLOTS_MAX = 64;

/** The machine's file system in `directory`, which is made when missing. The caller holds the folder's lock. */
export function createNodeFiles(directory: string): OutboxFiles {
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = (name: string): string => join(directory, name);
  return {
    list: () =>
      fs
        .readdirSync(directory)
        .filter((name) => name !== LOCK_NAME)
        .map((name) => ({ name, size: fs.statSync(path(name)).size })),
    create: (name) => openFile(path(name)),
    read: (name, position, length) => {
      const handle = fs.openSync(path(name), "r");
      try {
        const target = Buffer.allocUnsafe(length);
        let filled = 0;
        while (filled < length) {
          const count = fs.readSync(handle, target, filled, length - filled, position + filled);
          if (count === 0) break;
          filled += count;
        }
        return target.subarray(0, filled);
      } finally {
        fs.closeSync(handle);
      }
    },
    truncate: (name, size) => fs.truncateSync(path(name), size),
    remove: (name) => fs.unlinkSync(path(name)),
    sync: (name, callback) => syncPath(path(name), "r+", callback),
    syncDirectory: (callback) => syncPath(directory, "r", callback),
    release: () => releaseLock(directory),
  };
}

function syncPath(path: string, flags: string, callback: (error: Error | undefined) => void): void {
  fs.open(path, flags, (openError, handle) => {
    if (openError) return callback(openError);
    fs.fsync(handle, (error) => fs.close(handle, () => callback(error ?? undefined)));
  });
}

function openFile(path: string): OutboxFile {
  const handle = fs.openSync(path, "w", 0o600);
  let size = 0;
  return {
    write: (bytes) => {
      let written = 0;
      while (written < bytes.length) written += fs.writeSync(handle, bytes, written, bytes.length - written, size + written);
      size += written;
    },
    sync: (callback) => fs.fdatasync(handle, (error) => callback(error ?? undefined)),
    truncate: (to) => {
      fs.ftruncateSync(handle, to);
      size = to;
    },
    close: () => fs.closeSync(handle),
  };
}

/**
 * Claims the first free slot (`0`, `1`, ...) of `directory`: processes that share a data folder get one each, and a restarted
 * one finds what its predecessor left. Throws INTERNAL when all are taken.
 */
export function claimSlot(directory: string): { readonly slot: string; readonly files: OutboxFiles } {
  for (let slot = 0; slot < SLOTS_MAX; slot++) {
    const folder = join(directory, String(slot));
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (takeLock(folder)) return { slot: String(slot), files: createNodeFiles(folder) };
  }
  throw new SignalboxError("INTERNAL", `all ${SLOTS_MAX} outboxes in ${directory} are in use`);
}

/** Files of every slot that nobody uses and that holds something: left by processes that did not come back. */
export function claimAbandoned(directory: string): readonly { readonly slot: string; readonly files: OutboxFiles }[] {
  const claimed = [];
  for (const slot of fs.readdirSync(directory)) {
    const folder = join(directory, slot);
    if (!/^\d+$/.test(slot) || !fs.readdirSync(folder).some((name) => name.endsWith(".seg"))) continue;
    if (takeLock(folder)) claimed.push({ slot, files: createNodeFiles(folder) });
  }
  return claimed;
}
