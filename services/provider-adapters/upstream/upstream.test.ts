import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { failureOf, REUSED } from "./failure.ts";
import { type Sweepable, Sweeper, SWEEP_PERIOD_MS } from "./sweeper.ts";

function fault(code: string, more: object = {}): Error {
  return Object.assign(new Error("secret address 10.0.0.1"), { code }, more);
}

const BEFORE = { sent: false, answered: false };
const SENT = { sent: true, answered: false };
const ANSWERED = { sent: true, answered: true };

test("what fails before the request is sent leaves it untouched", () => {
  for (const code of ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ECONNRESET", "CERT_HAS_EXPIRED", "ERR_TLS_CERT_ALTNAME_INVALID"]) {
    const failure = failureOf(fault(code), BEFORE);
    assert.deepEqual([failure.reason, failure.untouched], ["UPSTREAM_UNAVAILABLE", true], code);
    assert.equal(/certificate/.test(failure.message), code.includes("CERT"), code);
    assert.doesNotMatch(failure.message, /10\.0\.0\.1/);
  }
  assert.deepEqual(failureOf(fault("UND_ERR_CONNECT_TIMEOUT"), BEFORE).reason, "UPSTREAM_TIMEOUT");
});

test("a broken connection is untouched only when it had served before and brought no byte", () => {
  const reused = [fault("ECONNRESET", { [REUSED]: true }), fault("UND_ERR_SOCKET", { socket: { bytesRead: 900 } })];
  for (const error of reused) {
    assert.equal(failureOf(error, SENT).untouched, true);
    assert.equal(failureOf(error, ANSWERED).untouched, false);
  }
  assert.equal(failureOf(fault("UND_ERR_SOCKET", { socket: { bytesRead: 0 } }), SENT).untouched, false);
  assert.equal(failureOf(fault("ECONNRESET", { [REUSED]: false }), SENT).untouched, false);
});

test("answers that break HTTP are malformed", () => {
  for (const code of ["HPE_INVALID_CONSTANT", "UND_ERR_HEADERS_OVERFLOW", "UND_ERR_RES_CONTENT_LENGTH_MISMATCH"]) {
    assert.deepEqual(failureOf(fault(code), ANSWERED), {
      reason: "UPSTREAM_PROTOCOL",
      message: `The provider's answer is malformed (${code}).`,
      untouched: false,
    });
  }
});

test("time in which the process stood still is told apart", () => {
  const clock = new FakeClock();
  const sweeper = new Sweeper(clock);
  const seen: string[] = [];
  sweeper.add({ sweep: (nowMs, lostMs) => void seen.push(`${nowMs}-${lostMs}`) });
  clock.advance(SWEEP_PERIOD_MS);
  clock.stall(SWEEP_PERIOD_MS + 99);
  clock.advance(0);
  clock.stall(SWEEP_PERIOD_MS + 1_000);
  clock.advance(SWEEP_PERIOD_MS);
  sweeper.stop();
  assert.deepEqual(seen, ["50-0", "199-0", "1249-1000", "1299-0"]);
});

test("one timer serves everything in flight and stands still when nothing is", () => {
  const clock = new FakeClock();
  const sweeper = new Sweeper(clock);
  const seen: string[] = [];
  const sweepable = (name: string): Sweepable => ({
    sweep: (nowMs) => {
      seen.push(`${name}@${nowMs}`);
      if (nowMs >= 2 * SWEEP_PERIOD_MS) sweeper.remove(places.get(name)!);
    },
  });
  const self = new Map<string, Sweepable>();
  const places = new Map<string, number>();
  for (const name of ["a", "b"]) {
    self.set(name, sweepable(name));
    places.set(name, sweeper.add(self.get(name)!));
  }
  clock.advance(10 * SWEEP_PERIOD_MS);
  assert.deepEqual(seen, ["a@50", "b@50", "a@100", "b@100"]);
  assert.equal(clock.nextAtMs(), undefined);
  sweeper.add(self.get("a")!);
  assert.equal(clock.nextAtMs(), 11 * SWEEP_PERIOD_MS);
  sweeper.stop();
  assert.equal(clock.nextAtMs(), undefined);
});
