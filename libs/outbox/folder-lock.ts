import * as fs from "node:fs";
import { join } from "node:path";

/** Name of the lock file inside a locked folder; it holds the process id of its holder. */
export const LOCK_NAME = "lock";

/** Folders locked by this very process: its own id in a lock file says nothing, a container's processes all have number 1. */
const held = new Set<string>();

/** Locks `folder` for this process; false when a live process has it. A lock whose holder is gone is taken over. */
export function takeLock(folder: string): boolean {
  const path = join(folder, LOCK_NAME);
  if (held.has(path)) return false;
  try {
    fs.writeFileSync(path, String(process.pid), { flag: "wx", mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const holder = Number(fs.readFileSync(path, "utf8"));
    if (holder !== process.pid && isAlive(holder)) return false;
    fs.writeFileSync(path, String(process.pid), { mode: 0o600 });
  }
  held.add(path);
  return true;
}

/** Gives the folder up. Idempotent. */
export function releaseLock(folder: string): void {
  const path = join(folder, LOCK_NAME);
  if (held.delete(path)) fs.rmSync(path, { force: true });
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
