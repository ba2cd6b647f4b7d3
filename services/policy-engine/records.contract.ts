import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { Engine, type Evidence } from "./engine.ts";
import { backend, config, model, request } from "./fixture.ts";
import type { DecisionRecords } from "./records.ts";
import { compileSnapshot } from "./snapshot.ts";
import { EngineState } from "./state.ts";

/** Evidence of a real decision on an ordinary request. */
export function evidence(parts: Parameters<typeof request>[1] = {}): Evidence {
  const snapshot = compileSnapshot(config([backend("a"), backend("b")], [model("m", ["a", "b"])]), undefined, EMPTY_PRICE_INDEX);
  const verdict = new Engine("e").decide(
    request("m", parts),
    snapshot,
    new EngineState(snapshot, 0),
    { monoMs: 0, wallMs: 1_000 },
    { seed: 1, explain: false, live: true, lift: 0 },
  );
  assert.ok(verdict.kind === "decided");
  return verdict.evidence;
}

/** What every implementation of DecisionRecords keeps to. `create` gives an empty one that holds at least ten decisions. */
export function recordsContract(name: string, create: () => DecisionRecords): void {
  test(`${name}: a decision is found by its id, its request's and its responses', with the terms`, async () => {
    const records = create();
    const kept = evidence();
    records.keep(evidence());
    records.keep(kept);
    records.keep(evidence());
    records.link(kept, "chatcmpl-1");
    for (const id of [kept.request.decisionId, kept.request.requestId, "chatcmpl-1"]) {
      const record = await records.find(id);
      assert.equal(record?.request?.decisionId, kept.request.decisionId);
      assert.ok(record.decision?.result.case === "allow");
      assert.equal(record.decision.result.value.candidates.length, 2);
      assert.ok(record.decision.result.value.candidates[0]!.terms["ttft"]! > 0);
      assert.deepEqual(record.responseIds, ["chatcmpl-1"]);
    }
    assert.equal(await records.find("nobody"), undefined);
  });

  test(`${name}: a request id gives its latest decision, and last the latest of all`, async () => {
    const records = create();
    assert.equal(await records.last(), undefined);
    records.keep(evidence({ requestId: "same", decisionId: "d1" }));
    records.keep(evidence({ requestId: "same", decisionId: "d2" }));
    assert.equal((await records.find("same"))?.request?.decisionId, "d2");
    assert.equal((await records.last())?.request?.decisionId, "d2");
  });
}
