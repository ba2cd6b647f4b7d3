import { readdirSync, readFileSync } from "node:fs";

/** Clock ticks per second in /proc: user space sees 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

const PAGE_BYTES = 4096;

/** What some processes and all their descendants have used. */
export interface TreeUsage {
  /** User and system time so far, ms. */
  readonly cpuMs: number;
  /** Resident memory now, bytes. */
  readonly rssBytes: number;
  readonly processes: number;
}

/** One line of /proc/PID/stat. */
export interface ProcessStat {
  readonly pid: number;
  readonly parent: number;
  readonly cpuMs: number;
  readonly rssBytes: number;
}

/** Reads a stat line; the command in parentheses may hold anything, so fields count from its end. Undefined when it is none. */
export function parseStat(text: string): ProcessStat | undefined {
  const nameEnd = text.lastIndexOf(")");
  const pid = Number.parseInt(text, 10);
  if (nameEnd < 0 || !(pid > 0)) return undefined;
  const fields = text.slice(nameEnd + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { pid, parent: Number(fields[1]), cpuMs: (ticks * 1000) / TICKS_PER_SECOND, rssBytes: Number(fields[21]) * PAGE_BYTES };
}

/** Sum over `roots` and their descendants among `stats`; none is counted twice. */
export function sumTree(roots: readonly number[], stats: readonly ProcessStat[]): TreeUsage {
  const wanted = new Set(roots);
  for (let before = 0; before !== wanted.size;) {
    before = wanted.size;
    for (const { pid, parent } of stats) if (wanted.has(parent)) wanted.add(pid);
  }
  const members = stats.filter(({ pid }) => wanted.has(pid));
  return {
    cpuMs: members.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
    rssBytes: members.reduce((sum, { rssBytes }) => sum + rssBytes, 0),
    processes: members.length,
  };
}

/** Usage of `roots` and their descendants, from /proc. All zero where there is no /proc. */
export function treeUsage(roots: readonly number[]): TreeUsage {
  return sumTree(roots, readStats());
}

function readStats(): ProcessStat[] {
  let names: string[];
  try {
    names = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    try {
      return parseStat(readFileSync(`/proc/${name}/stat`, "utf8")) ?? [];
    } catch {
      return [];
    }
  });
}
