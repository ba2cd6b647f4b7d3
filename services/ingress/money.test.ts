import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type AttemptEnd, AttemptEndSchema, AttemptErrorSchema, UsageSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import {
  type Candidate,
  CandidateSchema,
  type DecideRequest,
  DecideRequestSchema,
  DecisionSchema,
  Outcome,
} from "#gen/signalbox/policy/v1/policy_pb.ts";
import { createConfigSource, defaultConfig } from "#libs/config/index.ts";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { GpuShare } from "./gpu-share.ts";
import { bookedUsage, Money, purposeOf, wasDispatched, type AttemptIdentity } from "./money.ts";
import type { OutboxPort } from "./outbox-port.ts";
import type { Prices } from "./prices.ts";
import { withCost } from "./openai/stream.ts";

const PROMPT = 40;
/** Output an attempt without a limit of its own is allowed. */
const MOST = 8_192;

function end(outcome: Outcome, parts: Partial<Omit<AttemptEnd, "$typeName" | "$unknown">> = {}): AttemptEnd {
  return create(AttemptEndSchema, { outcome, ...parts });
}

function booked(attempt: AttemptEnd): [number, number, boolean] {
  const { usage, estimated } = bookedUsage(attempt, PROMPT, MOST);
  return [usage.inputTokens, usage.outputTokens, estimated];
}

/** Books into a list, without prices. */
function moneyInto(records: AttemptRecord[]): Money {
  const outbox = { append: (record: AttemptRecord) => records.push(record) } as unknown as OutboxPort;
  return new Money(createConfigSource(defaultConfig()), { index: EMPTY_PRICE_INDEX } as Prices, outbox);
}

function identityOf(parts: { decide: DecideRequest; candidate: Candidate; stream: boolean }): AttemptIdentity {
  return {
    attemptId: "a1",
    intake: { decide: parts.decide, choices: 1, requestId: "r1", stream: parts.stream },
    decision: create(DecisionSchema),
    candidate: parts.candidate,
    startedAtMs: 1_000,
    reservedNanoUsd: 0n,
  } as unknown as AttemptIdentity;
}

test("fault: an attempt without a price whose ingress died was booked as free and not marked", () => {
  const records: AttemptRecord[] = [];
  const decide = create(DecideRequestSchema, { inputTokens: PROMPT });
  moneyInto(records).intend(identityOf({ decide, candidate: create(CandidateSchema, { backend: "new" }), stream: false }));
  const [intent] = records;
  assert.deepEqual([intent!.unpriced, intent!.priceGrade, intent!.reservedNanoUsd], [true, "unknown", 0n]);
});

test("what the provider stated is booked as it is, and marked only when it contradicted itself", () => {
  assert.deepEqual(booked(end(Outcome.OK, { usage: create(UsageSchema, { inputTokens: 3, outputTokens: 4 }), usageKnown: true })), [
    3,
    4,
    false,
  ]);
  assert.deepEqual(booked(end(Outcome.OK, { usage: create(UsageSchema, { inputTokens: 3, anomaly: true }), usageKnown: true })), [
    3,
    0,
    true,
  ]);
});

test("an attempt whose adapter died may have been billed: it is booked as an estimate, never as free", () => {
  const lost = end(Outcome.FAILED, {
    dispatched: true,
    error: create(AttemptErrorSchema, { reason: "UPSTREAM_UNAVAILABLE", code: "adapter_lost" }),
  });
  assert.deepEqual(booked(lost), [PROMPT, 200, true]);
  assert.equal(bookedUsage(lost, PROMPT, 50).usage.outputTokens, 50);
  assert.deepEqual(
    booked(end(Outcome.FAILED, { dispatched: true, error: create(AttemptErrorSchema, { reason: "UPSTREAM_UNAVAILABLE" }) })),
    [0, 0, false],
  );
});

test("embeddings whose adapter died were booked with 200 output tokens: they have no output, nor do the bytes of their vectors", () => {
  const lost = end(Outcome.FAILED, {
    dispatched: true,
    error: create(AttemptErrorSchema, { reason: "UPSTREAM_UNAVAILABLE", code: "adapter_lost" }),
  });
  const cut = end(Outcome.CANCELED, { contentSeen: true, contentEvents: 1, contentBytes: 60_000 });
  for (const attempt of [lost, cut]) {
    const { usage, estimated } = bookedUsage(attempt, PROMPT, 0);
    assert.deepEqual([usage.inputTokens, usage.outputTokens, estimated], [PROMPT, 0, true]);
  }
});

test("fault: an answer cut short was booked beyond what was set aside for it, because its bytes looked like more tokens", () => {
  const cut = end(Outcome.CANCELED, { contentSeen: true, contentEvents: 79, contentBytes: 392 });
  assert.equal(bookedUsage(cut, PROMPT, 79).usage.outputTokens, 79);
  assert.equal(bookedUsage(cut, PROMPT, 50).usage.outputTokens, 50);
  const counted = end(Outcome.CANCELED, { contentSeen: true, usage: create(UsageSchema, { outputTokens: 98 }) });
  assert.equal(bookedUsage(counted, PROMPT, 79).usage.outputTokens, 79);
});

test("an answer cut short is booked with the counted output and the estimated prompt", () => {
  const counted = create(UsageSchema, { outputTokens: 7 });
  assert.deepEqual(booked(end(Outcome.CANCELED, { usage: counted, contentSeen: true })), [PROMPT, 7, true]);
  assert.deepEqual(booked(end(Outcome.FAILED, { usage: counted, contentSeen: true })), [PROMPT, 7, true]);
  assert.deepEqual(booked(end(Outcome.CANCELED, { usage: create(UsageSchema, { inputTokens: 11, outputTokens: 2 }) })), [11, 2, true]);
  assert.deepEqual(booked(end(Outcome.CANCELED, { usage: create(UsageSchema, { cacheReadTokens: 11, outputTokens: 2 }) })), [0, 2, true]);
  assert.deepEqual(booked(end(Outcome.DEADLINE)), [PROMPT, 0, true]);
  assert.deepEqual(booked(end(Outcome.OK, { contentEvents: 3, contentBytes: 40 })), [PROMPT, 10, true]);
});

test("fault: a whole answer that was cut off was booked without any output, though the provider had made some", () => {
  const records: AttemptRecord[] = [];
  const money = moneyInto(records);
  const cut = end(Outcome.CANCELED, { dispatched: true, durationMs: 200, usage: create(UsageSchema) });
  for (const [stream, expected] of [
    [false, 21],
    [true, 0],
  ] as const) {
    const decide = create(DecideRequestSchema, { inputTokens: PROMPT, maxOutputTokens: 100 });
    const candidate = create(CandidateSchema, { backend: "a", predictedTtftMs: 80, predictedTpotMs: 6 });
    const settled = money.settle(identityOf({ decide, candidate, stream }), cut, {
      durationMs: 200,
      ttftMs: 0,
      gpuSeconds: 0,
      review: undefined,
    });
    assert.deepEqual([settled.usage.outputTokens, settled.estimated], [expected, true]);
  }
});

test("a refusal and a silence cost nothing, an answer that only began costs its prompt", () => {
  const failed = (reason: string, httpStatus: number, headersMs: number): AttemptEnd =>
    end(Outcome.FAILED, { error: create(AttemptErrorSchema, { reason, httpStatus }), headersMs, dispatched: true });
  assert.deepEqual(booked(failed("UPSTREAM_UNAVAILABLE", 503, 5)), [0, 0, false]);
  assert.deepEqual(booked(failed("UPSTREAM_TIMEOUT", 0, 0)), [0, 0, false]);
  assert.deepEqual(booked(failed("UPSTREAM_PROTOCOL", 200, 5)), [PROMPT, 0, true]);
});

test("only what left for the provider is posted", () => {
  assert.equal(wasDispatched(end(Outcome.FAILED)), false);
  assert.equal(wasDispatched(end(Outcome.CANCELED)), false);
  assert.equal(wasDispatched(end(Outcome.FAILED, { dispatched: true })), true);
  assert.equal(wasDispatched(end(Outcome.FAILED, { error: create(AttemptErrorSchema, { httpStatus: 500 }) })), true);
  assert.equal(wasDispatched(end(Outcome.OK)), true);
});

test("purposes tell bought answers from waste", () => {
  assert.equal(purposeOf(end(Outcome.OK), false), "billed");
  assert.equal(purposeOf(end(Outcome.HEDGE_LOST), false), "waste_hedge");
  assert.equal(purposeOf(end(Outcome.CANCELED), false), "waste_aborted");
  assert.equal(purposeOf(end(Outcome.DEADLINE), false), "waste_aborted");
  assert.equal(purposeOf(end(Outcome.FAILED), false), "waste_retry");
  assert.equal(purposeOf(end(Outcome.FAILED, { contentSeen: true }), false), "waste_aborted");
});

test("GPU time is shared by those in flight and adds up to wall time", () => {
  const share = new GpuShare();
  const first = share.start("a", 0);
  const second = share.start("a", 1_000);
  // Alone for one second, half of the next two.
  assert.equal(share.end("a", first, 3_000), 2);
  assert.equal(share.end("a", second, 4_000), 2);
  const later = share.start("a", 100_000);
  assert.equal(share.end("a", later, 100_500), 0.5);
  assert.equal(share.end("never", 0, 5), 0);
});

test("the cost is spliced into a usage event, whatever its spacing", () => {
  const of = (text: string): unknown =>
    JSON.parse(
      Buffer.from(withCost(Buffer.from(`data: ${text}\n\n`), 1_500n))
        .toString()
        .slice(6),
    );
  assert.deepEqual(of('{"a":{"b":1}}'), { a: { b: 1 }, signalbox: { cost_usd: "0.0000015" } });
  assert.deepEqual(of("{ }"), { signalbox: { cost_usd: "0.0000015" } });
  assert.deepEqual(of('{"a":1 }'), { a: 1, signalbox: { cost_usd: "0.0000015" } });
  assert.equal(Buffer.from(withCost(Buffer.from(": nothing\n\n"), 1n)).toString(), ": nothing\n\n");
});
