import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DecisionRecordSchema } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import { explainJson } from "./explain-json.ts";

test("an explained decision says which targets it was held against, what a candidate costs the pool, and how it stood", () => {
  const busy = { backend: "gpu", costNanoUsd: 41_000n, marginalNanoUsd: 12n, standing: "busy" };
  const record = create(DecisionRecordSchema, {
    decision: { ttftTargetMs: 600, result: { case: "allow", value: { candidates: [busy] } } },
  });
  const explained = explainJson(record) as { candidates: Record<string, unknown>[] } & Record<string, unknown>;
  assert.equal(explained["ttft_target_ms"], 600);
  assert.equal(explained["tpot_target_ms"], null, "none");
  const { cost_nano_usd, marginal_nano_usd, standing } = explained.candidates[0]!;
  assert.deepEqual([cost_nano_usd, marginal_nano_usd, standing], ["41000", "12", "busy"]);
});
