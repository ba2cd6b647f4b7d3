/** Offsets from UTC change only on multiples of this: looked up once per slot. */
const SLOT_MS = 15 * 60_000;
const MINUTE_MS = 60_000;
const WEEK_MINUTES = 7 * 24 * 60;
/** 1970-01-01 was a Thursday: minutes from that week's Monday. */
const EPOCH_MINUTE_OF_WEEK = 3 * 24 * 60;

/** Minute of the week, Monday 00:00 = 0, in one IANA zone. Caches the zone's offset, because the calendar is slow to ask. */
export function createWeekClock(tz: string): (atMs: number) => number {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: tz,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
  });
  let slot = Number.NaN;
  let offsetMinutes = 0;
  return (atMs) => {
    const current = Math.floor(atMs / SLOT_MS);
    if (current !== slot) {
      offsetMinutes = offsetAt(format, current * SLOT_MS);
      slot = current;
    }
    const minute = Math.floor(atMs / MINUTE_MS) + offsetMinutes + EPOCH_MINUTE_OF_WEEK;
    return ((minute % WEEK_MINUTES) + WEEK_MINUTES) % WEEK_MINUTES;
  };
}

function offsetAt(format: Intl.DateTimeFormat, atMs: number): number {
  const parts: Record<string, number> = {};
  for (const part of format.formatToParts(atMs)) parts[part.type] = Number(part.value);
  const local = Date.UTC(parts["year"]!, parts["month"]! - 1, parts["day"], parts["hour"], parts["minute"]);
  return Math.round((local - atMs) / MINUTE_MS);
}

/** Whether `minute` of the week lies in one of the windows, given as [from, to) pairs in a row. */
export function isInWindows(windows: readonly number[], minute: number): boolean {
  for (let index = 0; index + 1 < windows.length; index += 2) {
    if (minute >= windows[index]! && minute < windows[index + 1]!) return true;
  }
  return false;
}
