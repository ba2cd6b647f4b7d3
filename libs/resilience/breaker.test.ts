import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SeededRandom } from "#libs/clock/fake.ts";
import { type BreakerEvent, type BreakerOptions, CircuitBreaker } from "./breaker.ts";

const OPTIONS: BreakerOptions = { consecutive: 5, successRate: 0.8, windowMs: 30_000, minRequests: 20, openMs: 5_000, maxOpenMs: 300_000 };
const FAILURE: BreakerEvent = { kind: "failure" };
const SUCCESS: BreakerEvent = { kind: "success" };

function opened(atMs = 0): { breaker: CircuitBreaker; random: SeededRandom } {
  const random = new SeededRandom(1);
  const breaker = new CircuitBreaker(OPTIONS, 0);
  for (let count = 0; count < 5; count++) breaker.on(FAILURE, atMs, random);
  return { breaker, random };
}

test("five hard failures in a row open it and a success in between does not", () => {
  const random = new SeededRandom(1);
  const breaker = new CircuitBreaker(OPTIONS, 0);
  for (let count = 0; count < 4; count++) assert.equal(breaker.on(FAILURE, count, random), undefined);
  breaker.on(SUCCESS, 4, random);
  for (let count = 0; count < 4; count++) assert.equal(breaker.on(FAILURE, 5 + count, random), undefined);
  assert.deepEqual(breaker.on(FAILURE, 9, random), { from: "closed", to: "open" });
  assert.equal(breaker.canAdmit(10), false);
});

test("refusals for load never count as failures in a row but sink the success rate", () => {
  const random = new SeededRandom(1);
  const breaker = new CircuitBreaker(OPTIONS, 0);
  for (let count = 0; count < 19; count++) assert.equal(breaker.on({ kind: "limited", retryAfterMs: 0 }, count, random), undefined);
  assert.deepEqual(breaker.on({ kind: "limited", retryAfterMs: 60_000 }, 20, random), { from: "closed", to: "open" });
  assert.equal(breaker.canAdmit(59_000), false, "the provider's retry-after is longer than the planned time");
  assert.equal(breaker.canAdmit(60_020), true);
});

test("the success rate does not open it while the caller forbids it, failures in a row still do", () => {
  const random = new SeededRandom(1);
  const breaker = new CircuitBreaker(OPTIONS, 0);
  for (let count = 0; count < 40; count++) {
    breaker.on(count % 2 === 0 ? FAILURE : SUCCESS, count, random, false, false);
  }
  assert.equal(breaker.state(40).kind, "closed");
  for (let count = 0; count < 5; count++) breaker.on(FAILURE, 50, random, false, false);
  assert.equal(breaker.state(50).kind, "open");
});

test("a half-open breaker lets one trial through at a time and closes after two successes", () => {
  const { breaker, random } = opened();
  assert.equal(breaker.admit(4_499), undefined);
  assert.equal(breaker.admit(5_000), "trial");
  assert.equal(breaker.admit(5_001), undefined);
  breaker.on(FAILURE, 5_002, random, false);
  assert.equal(breaker.state(5_002).kind, "half_open", "an old attempt's end says nothing");
  assert.equal(breaker.on(SUCCESS, 5_100, random, true), undefined);
  assert.equal(breaker.admit(5_101), "trial");
  assert.deepEqual(breaker.on(SUCCESS, 5_200, random, true), { from: "half_open", to: "closed" });
});

test("open times double with each failed trial, within a quarter of the outage, and chance only shortens them", () => {
  const { breaker, random } = opened();
  let nowMs = 0;
  for (let round = 0; round < 40; round++) {
    const state = breaker.state(nowMs);
    assert.ok(state.kind === "open");
    const planned = Math.min(300_000, 5_000 * 2 ** round, Math.max(15_000, nowMs / 4));
    const actual = state.untilMs - state.sinceMs;
    assert.ok(actual <= planned && actual >= planned * 0.9, `${actual} of ${planned}`);
    nowMs = state.untilMs;
    assert.equal(breaker.admit(nowMs), "trial");
    breaker.on(FAILURE, nowMs, random, true);
  }
  assert.ok(nowMs > 3_600_000, "in the end it asks every five minutes");
});

test("an outage of a minute takes at most five trials and is over within fifteen seconds of its end, whatever chance says", () => {
  for (let seed = 0; seed < 200; seed++) {
    const random = new SeededRandom(seed);
    const breaker = new CircuitBreaker(OPTIONS, 0);
    for (let count = 0; count < 5; count++) breaker.on(FAILURE, 300, random);
    let trials = 0;
    for (let nowMs = 300; breaker.state(nowMs).kind !== "closed"; nowMs += 50) {
      if (breaker.admit(nowMs) !== "trial") continue;
      if (nowMs < 60_000) trials++;
      breaker.on(nowMs < 60_000 ? FAILURE : SUCCESS, nowMs, random, true);
      assert.ok(nowMs <= 75_500, String(nowMs));
    }
    assert.ok(trials <= 5, String(trials));
  }
});

test("a lost trial is given up after a minute and a neutral end gives it back at once", () => {
  const { breaker, random } = opened();
  assert.equal(breaker.admit(5_000), "trial");
  assert.equal(breaker.admit(64_999), undefined);
  assert.equal(breaker.admit(65_000), "trial");
  breaker.on({ kind: "neutral" }, 65_001, random, true);
  assert.equal(breaker.admit(65_001), "trial");
});

test("a working liveness call half-opens it at once", () => {
  const { breaker, random } = opened();
  assert.deepEqual(breaker.on({ kind: "live" }, 100, random), { from: "open", to: "half_open" });
  assert.equal(breaker.admit(101), "trial");
});

test("one minute of quiet takes one doubling back", () => {
  const { breaker, random } = opened();
  breaker.admit(5_000);
  breaker.on(FAILURE, 5_000, random, true);
  breaker.admit(15_000);
  breaker.on(SUCCESS, 15_000, random, true);
  breaker.admit(15_001);
  breaker.on(SUCCESS, 15_001, random, true);
  for (let count = 0; count < 5; count++) breaker.on(FAILURE, 15_001 + 125_000, random);
  const state = breaker.state(15_001 + 125_000);
  assert.ok(state.kind === "open" && state.untilMs - state.sinceMs <= 5_000);
});

test("a backend that flaps every five seconds changes its state at most four times a minute", () => {
  for (let seed = 0; seed < 50; seed++) {
    const random = new SeededRandom(seed);
    const breaker = new CircuitBreaker(OPTIONS, 0);
    let changes = 0;
    let failures = 0;
    for (let nowMs = 0; nowMs < 300_000; nowMs += 50) {
      const admitted = breaker.admit(nowMs);
      if (admitted === undefined) continue;
      const isUp = Math.floor(nowMs / 5_000) % 2 === 1;
      if (!isUp) failures++;
      const transition = breaker.on(isUp ? SUCCESS : FAILURE, nowMs, random, admitted === "trial");
      if (transition?.to === "open" && transition.from === "closed") changes++;
      if (transition?.to === "closed") changes++;
    }
    assert.ok(changes / 5 <= 4, `seed ${seed}: ${changes} in five minutes`);
    assert.ok(failures <= 60, `seed ${seed}: ${failures} failures`);
  }
});

/** The same rules written the slow way: a list of all events, looked over at each step. */
class Model {
  kind: "closed" | "open" | "half_open" = "closed";
  failures = 0;
  successes = 0;
  trial = false;
  openings = 0;
}

test("for any sequence of events it agrees with a slow model on states, trials and bounds", () => {
  const step = fc.record({
    kind: fc.constantFrom("success", "failure", "neutral", "live", "admit"),
    waitMs: fc.integer({ min: 0, max: 700 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), fc.integer(), (steps, seed) => {
      const random = new SeededRandom(seed);
      const breaker = new CircuitBreaker({ ...OPTIONS, minRequests: 1_000 }, 0);
      const model = new Model();
      let nowMs = 0;
      let openUntil = 0;
      for (const { kind, waitMs } of steps) {
        nowMs += waitMs;
        if (model.kind === "open" && nowMs >= openUntil) Object.assign(model, { kind: "half_open", successes: 0, trial: false });
        if (kind === "admit") {
          const expected = model.kind === "closed" ? "normal" : model.kind === "half_open" && !model.trial ? "trial" : undefined;
          assert.equal(breaker.admit(nowMs), expected);
          if (expected === "trial") model.trial = true;
          continue;
        }
        const wasTrial = model.trial;
        breaker.on({ kind }, nowMs, random, wasTrial);
        if (model.kind === "closed") {
          if (kind === "success") model.failures = 0;
          if (kind === "failure" && ++model.failures === 5) model.kind = "open";
        } else if (model.kind === "open") {
          if (kind === "live") Object.assign(model, { kind: "half_open", successes: 0, trial: false });
        } else if (wasTrial && kind !== "live") {
          model.trial = false;
          if (kind === "failure") model.kind = "open";
          if (kind === "success" && ++model.successes === 2) Object.assign(model, { kind: "closed", failures: 0 });
        }
        const state = breaker.state(nowMs);
        assert.equal(state.kind, model.kind);
        if (state.kind === "open") {
          openUntil = state.untilMs;
          assert.ok(openUntil - state.sinceMs <= 300_000);
        }
      }
    }),
    { numRuns: 300 },
  );
});
