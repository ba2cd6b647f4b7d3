import type { ScheduleConfig } from "./model.ts";
import type { Parsed } from "./units.ts";

type Window = ScheduleConfig["windows"][number];

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
const DAY_MINUTES = 24 * 60;
const WEEK_MINUTES = 7 * DAY_MINUTES;
const HELP = "is not a window, write days and times such as `mon-fri 22:00-06:00`, `sat,sun 00:00-24:00` or `22:00-06:00` for every day";

function dayList(text: string): readonly number[] | undefined {
  if (text === "" || text === "daily") return [0, 1, 2, 3, 4, 5, 6];
  const days = new Set<number>();
  for (const part of text.split(",")) {
    const [first = "", last = first, ...rest] = part.split("-");
    const from = DAYS.indexOf(first as (typeof DAYS)[number]);
    const to = DAYS.indexOf(last as (typeof DAYS)[number]);
    if (from < 0 || to < 0 || rest.length > 0) return undefined;
    for (let step = 0; step <= (to - from + 7) % 7; step += 1) days.add((from + step) % 7);
  }
  return [...days];
}

function minuteOf(hour: string | undefined, minute: string | undefined): number | undefined {
  const value = Number(hour) * 60 + Number(minute);
  return Number(minute) < 60 && value <= DAY_MINUTES ? value : undefined;
}

/** `mon-fri 22:00-06:00` in minutes of the week, Monday 00:00 = 0. A window over midnight belongs to the day it begins on. */
export function parseWindow(raw: string): Parsed<readonly Window[]> {
  const match = /^(?:([a-z,-]+) +)?(\d{1,2}):(\d{2}) ?- ?(\d{1,2}):(\d{2})$/.exec(raw.trim().toLowerCase());
  const days = match ? dayList(match[1] ?? "") : undefined;
  const from = minuteOf(match?.[2], match?.[3]);
  const to = minuteOf(match?.[4], match?.[5]);
  if (!match || !days || from === undefined || to === undefined) return { error: HELP };
  if (from === to) return { error: "begins when it ends, write 00:00-24:00 for a whole day" };
  const length = to > from ? to - from : to + DAY_MINUTES - from;
  const windows: Window[] = [];
  for (const day of days) {
    const start = (day * DAY_MINUTES + from) % WEEK_MINUTES;
    const end = start + length;
    windows.push({ from: start, to: Math.min(end, WEEK_MINUTES) });
    if (end > WEEK_MINUTES) windows.push({ from: 0, to: end - WEEK_MINUTES });
  }
  return { value: mergeWindows(windows) };
}

/** Sorted, with windows that touch or overlap joined. */
export function mergeWindows(windows: readonly Window[]): readonly Window[] {
  const merged: { from: number; to: number }[] = [];
  for (const window of windows.toSorted((left, right) => left.from - right.from)) {
    const last = merged.at(-1);
    if (last && window.from <= last.to) last.to = Math.max(last.to, window.to);
    else merged.push({ ...window });
  }
  return merged;
}

/** Whether the runtime knows the IANA time zone. */
export function isTimeZone(name: string): boolean {
  try {
    Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false; // RangeError: unknown zone
  }
}
