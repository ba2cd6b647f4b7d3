import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { AttemptEndSchema, AttemptOpenSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { AttemptsCompletedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createMemoryBus, SUBJECTS } from "#libs/bus/index.ts";
import { FakeClock } from "#libs/clock/fake.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { Completions } from "./completions.ts";

const OPEN = create(AttemptOpenSchema, { attemptId: "a-1", backend: "größer", requestClass: 2, traceparent: "00-1-2-01" });
const ENDS = [
  create(AttemptEndSchema, {}),
  create(AttemptEndSchema, {
    outcome: Outcome.OK,
    usage: { inputTokens: 1, outputTokens: 4_000_000_000, serviceTier: "flex", anomaly: true },
    usageKnown: true,
    finishReason: "stop",
    upstreamModel: "m".repeat(300),
    responseId: "chatcmpl-1",
    ttftMs: 0.5,
    durationMs: 812.25,
    headersMs: 3,
    usageEvent: Buffer.from("for the client only"),
    warnings: ["temperature: clamped", ""],
    rateLimit: { remainingRequests: -1, resetTokensMs: 5, limitTokens: 9 },
    contentSeen: true,
    contentBytes: 70,
    contentEvents: 3,
    garbage: true,
    dispatched: true,
  }),
  create(AttemptEndSchema, {
    outcome: Outcome.FAILED,
    error: {
      reason: "UPSTREAM_REJECTED",
      message: "ü".repeat(2_000),
      httpStatus: 400,
      code: "c",
      param: "p",
      retryAfterMs: 9,
      contextLength: true,
      busy: true,
      type: "t",
      untouched: true,
    },
  }),
];

/** Completions on a bus of their own, and the messages that come of them. */
function collect(replica: string): { readonly clock: FakeClock; readonly completions: Completions; readonly seen: Uint8Array[] } {
  const clock = new FakeClock();
  const bus = createMemoryBus({ clock, logger: silentLogger });
  const seen: Uint8Array[] = [];
  bus.subscribe(SUBJECTS.attemptCompleted, ({ payload }) => void seen.push(payload));
  return { clock, completions: new Completions(bus, clock, replica), seen };
}

test("attempts that end in one turn leave in one message, as the message's own codec reads it", async () => {
  const { clock, completions, seen } = collect("replica-1");
  for (const end of ENDS) completions.add(OPEN, end);
  await clock.advanceAsync(1);
  completions.add(OPEN, ENDS[0]!);
  await clock.advanceAsync(1);
  assert.equal(seen.length, 2);
  const { attempts } = fromBinary(AttemptsCompletedSchema, seen[0]!);
  assert.deepEqual(
    attempts.map(({ end }) => end),
    ENDS.map((end) => ({ ...end, usageEvent: new Uint8Array(0) })),
  );
  for (const { attemptId, backend, replica, requestClass, traceparent } of attempts) {
    assert.deepEqual([attemptId, backend, replica, requestClass, traceparent], ["a-1", "größer", "replica-1", 2, "00-1-2-01"]);
  }
  assert.equal(attempts[0]?.endedAtMs, clock.now() - 2);
});

test("a turn with more than a message holds makes several, each well below the bus's limit", async () => {
  const { clock, completions, seen } = collect("r");
  for (let count = 0; count < 1_000; count++) completions.add(OPEN, ENDS[1]!);
  completions.flush();
  await clock.advanceAsync(1);
  assert.equal(seen.flatMap((payload) => fromBinary(AttemptsCompletedSchema, payload).attempts).length, 1_000);
  assert.ok(seen.every((payload) => payload.length <= 64 * 1024));
});
