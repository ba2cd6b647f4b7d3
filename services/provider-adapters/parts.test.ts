import assert from "node:assert/strict";
import { test } from "node:test";
import { BodyCollector } from "./body-collector.ts";
import { attemptError } from "./codec.ts";
import { BackendLimit } from "./limits.ts";
import { openOf } from "./openai/testkit.ts";
import { timeOutOf } from "./time-outs.ts";

test("replicas take equal shares of a bound, and never less than one slot", () => {
  const limit = new BackendLimit(5);
  assert.equal(limit.share, 5);
  limit.resize(5, 2);
  assert.deepEqual([limit.share, limit.tryEnter(), limit.tryEnter(), limit.tryEnter()], [2, true, true, false]);
  limit.resize(5, 100);
  assert.deepEqual([limit.share, limit.tryEnter(), limit.inFlight], [1, false, 2]);
  limit.leave();
  limit.leave();
  assert.equal(limit.tryEnter(), true);
});

test("each ceiling counts from where it should, and 0 is none", () => {
  const open = openOf({ deadlineMs: 9_000, connectTimeoutMs: 100, firstTokenTimeoutMs: 2_000, idleTimeoutMs: 500 });
  const at = { startMs: 1_000, excusedMs: 0, heardMs: 1_000, sent: false, answering: false, first: false };
  assert.equal(timeOutOf(open, at, 1_099), undefined);
  assert.equal(timeOutOf(open, at, 1_100), "connect");
  assert.equal(timeOutOf(open, { ...at, excusedMs: 50 }, 1_149), undefined);
  const waiting = { ...at, sent: true };
  assert.equal(timeOutOf(open, waiting, 2_999), undefined);
  assert.equal(timeOutOf(open, waiting, 3_000), "first_token");
  const streaming = { ...waiting, answering: true, first: true, heardMs: 5_000 };
  assert.equal(timeOutOf(open, streaming, 5_499), undefined);
  assert.equal(timeOutOf(open, streaming, 5_500), "idle");
  assert.equal(timeOutOf(open, { ...streaming, heardMs: 10_000 }, 10_000), "deadline");
  const none = openOf({ deadlineMs: 0, connectTimeoutMs: 0, firstTokenTimeoutMs: 0, idleTimeoutMs: 0 });
  assert.equal(timeOutOf(none, at, 1e9), undefined);
});

test("a body is gathered up to its bound, and what fits is kept", () => {
  const collector = new BodyCollector(5);
  assert.equal(collector.bytes().length, 0);
  assert.equal(collector.add(Buffer.from("abc")), true);
  assert.equal(collector.add(Buffer.from("defg")), false);
  assert.equal(collector.bytes().toString(), "abcde");
});

test("an error's message is bounded", () => {
  assert.equal(attemptError("INTERNAL", "x".repeat(5_000)).message.length, 2_001);
});
