import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { isTimeZone, mergeWindows, parseWindow } from "./schedule-windows.ts";

const DAY = 1440;

function windows(text: string): unknown {
  const parsed = parseWindow(text);
  return "value" in parsed ? parsed.value : undefined;
}

describe("schedule windows", () => {
  it("lets a window over midnight begin on each of its days", () => {
    assert.deepEqual(windows("mon-tue 22:00-06:00"), [
      { from: 1320, to: DAY + 360 },
      { from: DAY + 1320, to: 2 * DAY + 360 },
    ]);
  });

  it("splits a window over the week's end", () => {
    assert.deepEqual(windows("sun 23:00-01:00"), [
      { from: 0, to: 60 },
      { from: 6 * DAY + 1380, to: 7 * DAY },
    ]);
  });

  it("joins whole days", () => {
    assert.deepEqual(windows("sat-sun 00:00-24:00"), [{ from: 5 * DAY, to: 7 * DAY }]);
    assert.deepEqual(windows("sat,sun 00:00-24:00"), [{ from: 5 * DAY, to: 7 * DAY }]);
  });

  it("takes a range of days round the week's end", () => {
    assert.deepEqual(windows("sun-mon 08:00-09:00"), [
      { from: 480, to: 540 },
      { from: 6 * DAY + 480, to: 6 * DAY + 540 },
    ]);
  });

  it("means every day when no day is named", () => {
    assert.equal((windows("22:00-23:00") as unknown[]).length, 7);
    assert.deepEqual(windows("daily 22:00-23:00"), windows("22:00-23:00"));
  });

  it("refuses what is no window", () => {
    for (const text of [
      "",
      "mon",
      "mon 25:00-26:00",
      "mon 10:60-11:00",
      "mon 10:00-10:00",
      "moon 10:00-11:00",
      "mon-wed-fri 10:00-11:00",
    ]) {
      assert.equal(windows(text), undefined, text);
    }
  });

  it("joins windows that touch or overlap", () => {
    const joined = mergeWindows([
      { from: 30, to: 60 },
      { from: 0, to: 30 },
      { from: 50, to: 70 },
      { from: 80, to: 90 },
    ]);
    assert.deepEqual(joined, [
      { from: 0, to: 70 },
      { from: 80, to: 90 },
    ]);
  });

  it("knows the runtime's time zones", () => {
    assert.equal(isTimeZone("Europe/Berlin"), true);
    assert.equal(isTimeZone("Europe/Atlantis"), false);
  });
});
