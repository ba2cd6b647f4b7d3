import type { Testbed } from "./testbed.ts";

/** How often the shares are read, and over how long a share is taken, ms. */
const READ_MS = 250;
const WINDOW_MS = 2_000;

/** Share of new requests that the first backend got, as of a moment. */
export interface ShareAt {
  readonly atMs: number;
  readonly share: number;
}

/** What was seen of the first backend. */
export interface Probe {
  readonly share: readonly ShareAt[];
  /** Requests sent to it between two moments, ms. */
  readonly sentTo: (fromMs: number, untilMs: number) => number;
}

/** Watches how much of the traffic the first backend gets, up to `untilMs`. */
export function watchShare(bed: Testbed, untilMs: number): Probe {
  const counts: { readonly atMs: number; readonly first: number; readonly all: number }[] = [];
  const share: ShareAt[] = [];
  const read = (): void => {
    const all = bed.backends.reduce((sum, { sent }) => sum + sent, 0);
    const now = { atMs: bed.clock.monotonicMs(), first: bed.backends[0]!.sent, all };
    counts.push(now);
    const before = counts.at(-1 - WINDOW_MS / READ_MS);
    if (before !== undefined && all > before.all) share.push({ atMs: now.atMs, share: (now.first - before.first) / (all - before.all) });
    if (now.atMs < untilMs) bed.clock.after(READ_MS, read);
  };
  bed.clock.after(0, read);
  const sentBy = (atMs: number): number => counts.findLast((count) => count.atMs <= atMs)?.first ?? 0;
  return { share, sentTo: (fromMs, toMs) => sentBy(toMs) - sentBy(fromMs) };
}

/** Seconds from `fromMs` to the beginning of the first window for which `holds`; undefined when there is none before `untilMs`. */
export function firstQuiet(
  share: readonly ShareAt[],
  fromMs: number,
  untilMs: number,
  holds: (share: number) => boolean,
): number | undefined {
  const found = share.find((entry) => entry.atMs >= fromMs + WINDOW_MS && entry.atMs <= untilMs && holds(entry.share));
  return found === undefined ? undefined : (found.atMs - WINDOW_MS - fromMs) / 1_000;
}
