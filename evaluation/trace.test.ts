import assert from "node:assert/strict";
import { test } from "node:test";
import { prefixHashes } from "./prefix-hashes.ts";
import { readTrace, sliceTrace, TRACE_FILES, type TraceName } from "./trace.ts";
import { tracesOrReason } from "./testing.ts";
import { batchShare, merge, requestsOf, slicesOf } from "./workload.ts";

const traces = tracesOrReason();
const COUNTS: Readonly<Record<TraceName, number>> = {
  "azure-conv": 19_366,
  "azure-code": 8_819,
  "mooncake-conversation": 12_031,
  "mooncake-synthetic": 3_993,
};

for (const name of Object.keys(TRACE_FILES) as TraceName[]) {
  test(`${name} loads whole and in order`, { skip: traces.skip }, () => {
    const trace = readTrace(traces.folder, name);
    assert.equal(trace.requests.length, COUNTS[name]);
    assert.ok(trace.requests.every(({ inputTokens, outputTokens }) => inputTokens >= 1 && outputTokens >= 1));
    assert.ok(trace.requests.every(({ atMs }, at) => at === 0 || atMs >= trace.requests[at - 1]!.atMs));
    assert.equal(
      trace.requests.some(({ blocks }) => blocks.length > 0),
      name.startsWith("mooncake"),
    );
  });
}

test("a slice keeps its proportions at the rate asked for", () => {
  const requests = [0, 10, 40, 100, 500].map((atMs) => ({ atMs, inputTokens: 1, outputTokens: 1, blocks: [] }));
  const slice = sliceTrace({ name: "made up", requests }, { from: 1, count: 4, ratePerS: 10 });
  assert.equal(slice.requests.at(-1)!.atMs, 300);
  const [, b, c] = slice.requests.map(({ atMs }) => atMs);
  assert.ok(Math.abs(c! / b! - 90 / 30) < 1e-9);
  assert.deepEqual(slicesOf({ name: "made up", requests }, 2, 10), [
    { from: 0, count: 2 },
    { from: 2, count: 2 },
  ]);
});

test("streams merge in order of arrival, and batch requests are as many as asked for", () => {
  const requests = Array.from({ length: 2_000 }, (_, at) => ({ atMs: at * 10, inputTokens: 1, outputTokens: 1, blocks: [] }));
  const stream = requestsOf(
    { name: "made up", requests },
    { from: 0, count: 2_000, ratePerS: 50 },
    { ttftMs: 1, tpotMs: 1 },
    batchShare(0.35, 1),
  );
  const batch = stream.filter((request) => request.class === "batch").length;
  assert.ok(Math.abs(batch / 2_000 - 0.35) < 0.03, String(batch));
  const merged = merge(stream.slice(0, 10), stream.slice(5, 20));
  assert.deepEqual(
    merged.map(({ id }) => id),
    Array.from({ length: 25 }, (_, at) => at),
  );
  assert.ok(merged.every(({ atMs }, at) => at === 0 || atMs >= merged[at - 1]!.atMs));
});

test("prompts that share blocks share the ingress's hashes just as far, and no further", () => {
  const a = Buffer.from(prefixHashes([1, 2, 3, 4], 2_000));
  const b = Buffer.from(prefixHashes([1, 2, 9, 10], 2_000));
  const shared = 16;
  assert.equal(a.length, 8 * (16 + 3), "sixteen fine blocks, then whole coarse ones");
  assert.deepEqual(a.subarray(0, 8 * shared), b.subarray(0, 8 * shared));
  for (let block = shared; block < a.length / 8; block++)
    assert.notDeepEqual(a.subarray(8 * block, 8 * block + 8), b.subarray(8 * block, 8 * block + 8));
  assert.equal(
    prefixHashes(
      Array.from({ length: 300 }, (_, at) => at),
      150_000,
    ).length,
    8 * (16 + 60 + 112),
    "512 KiB at most",
  );
  assert.equal(prefixHashes([], 5_000).length, 0);
});
