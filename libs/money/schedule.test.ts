import assert from "node:assert/strict";
import { test } from "node:test";
import { createWeekClock, isInWindows } from "./schedule.ts";

test("the minute of the week follows the zone through both changes of the clocks", () => {
  const berlin = createWeekClock("Europe/Berlin");
  assert.equal(berlin(Date.UTC(2026, 9, 24, 22, 30)), 6 * 1440 + 30, "Sunday 00:30 in summer time");
  assert.equal(berlin(Date.UTC(2026, 9, 25, 0, 59)), 6 * 1440 + 2 * 60 + 59);
  assert.equal(berlin(Date.UTC(2026, 9, 25, 1, 0)), 6 * 1440 + 2 * 60, "the hour is there twice");
  assert.equal(berlin(Date.UTC(2026, 2, 29, 1, 0)), 6 * 1440 + 3 * 60, "the hour is not there");
  assert.equal(createWeekClock("Asia/Kathmandu")(Date.UTC(2026, 10, 1, 18, 15)), 0, "Monday 00:00 at +05:45");
  assert.equal(createWeekClock("UTC")(0), 3 * 1440);
});

test("windows are half-open", () => {
  assert.deepEqual(
    [59, 60, 119, 120].map((minute) => isInWindows([60, 120], minute)),
    [false, true, true, false],
  );
});
