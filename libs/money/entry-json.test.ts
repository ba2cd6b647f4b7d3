import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { EntrySchema, RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { entryJson } from "./entry-json.ts";

const RECORD = {
  kind: RecordKind.POST,
  attemptId: "a1",
  requestId: "r1",
  attempt: 2,
  tenant: "acme",
  tags: { user: "u1" },
  usage: { inputTokens: 10, cacheReadTokens: 2, cacheWriteTokens: 3, cacheWrite1hTokens: 4, outputTokens: 5, reasoningTokens: 1 },
  costNanoUsd: 9_007_199_254_740_993n,
  outcome: Outcome.HEDGE_LOST,
  startedAtUs: 1_793_534_400_123_456n,
};

test("an entry is exported in the product's words, amounts as text and time to the microsecond", () => {
  const json = entryJson(create(EntrySchema, { record: RECORD, sequence: 7n }));
  assert.equal(json.cost_nano_usd, "9007199254740993");
  assert.equal(json.started_at, "2026-11-01T12:00:00.123456Z");
  assert.equal(json.outcome, "hedge_lost");
  assert.equal(json.cache_write_tokens, 7);
  assert.deepEqual(json.tags, { user: "u1" });
  assert.equal(json.sequence, "7");
});

test("a reversing entry takes its tokens back and an expired one says so", () => {
  const json = entryJson(create(EntrySchema, { record: { ...RECORD, kind: RecordKind.EXPIRE, costNanoUsd: -5n }, reverses: "a1" }));
  assert.deepEqual([json.input_tokens, json.output_tokens, json.cost_nano_usd, json.outcome], [-10, -5, "-5", "expired"]);
});
