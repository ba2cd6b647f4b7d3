import assert from "node:assert/strict";
import { test } from "node:test";
import { goalsOf } from "./goals.ts";
import { Histogram, type LoadReport } from "./load/index.ts";
import { markdownTable, reportMarkdown } from "./markdown.ts";
import { planOf } from "./plan.ts";
import { cellOf, median, type BenchResults, type Sample } from "./results.ts";
import type { TargetId } from "./targets/index.ts";
import { benchTable } from "./verb.ts";

function reportOf(rps: number, ms: number): LoadReport {
  const histogram = new Histogram();
  for (let count = 0; count < 100; count++) histogram.record(ms);
  const times = histogram.percentiles();
  const ok = rps;
  return {
    durationMs: 1000,
    requests: ok,
    ok,
    errors: 0,
    errorsByKind: {},
    rps,
    eventsPerSecond: rps * 50,
    latency: times,
    ttft: times,
    tpot: times,
    backlog: 0,
  };
}

function sample(target: TargetId, scenario: Sample["scenario"], rps: number, ms: number, cpuMs: number): Sample {
  return {
    target,
    scenario,
    report: reportOf(rps, ms),
    cpuMs,
    rssBytes: 50e6,
    baseline: target === "direct" ? undefined : reportOf(rps, 1),
  };
}

const RESULTS: BenchResults = {
  samples: [
    sample("direct", "json-64", 10_000, 1, 0),
    sample("floor", "json-64", 1000, 2, 500),
    sample("embedded", "json-64", 600, 2, 600),
    sample("embedded", "json-64", 800, 2, 800),
    sample("embedded", "json-64", 700, 2, 700),
    sample("portkey", "json-64", 100, 30, 1000),
    sample("embedded", "half", 350, 1.2, 300),
  ],
  idleRssBytes: new Map([["embedded", 120e6]]),
  absent: new Map([["bifrost", "not installed"]]),
};

test("a cell holds medians over rounds and what was added over direct", () => {
  const cell = cellOf(RESULTS.samples, "embedded", "json-64")!;
  assert.equal(cell.rps, 700);
  assert.equal(cell.requestsPerCore, 1000);
  assert.equal(cell.cpuUs, 1000);
  assert.ok(Math.abs(cell.addedP50 - 1) < 0.05);
  assert.equal(cellOf(RESULTS.samples, "mesh", "json-64"), undefined);
});

test("goals compare with the same run and say what was not measured", () => {
  const verdicts = goalsOf(RESULTS, "embedded").map(({ goal, measured, verdict }) => `${goal}: ${measured} ${verdict}`);
  assert.deepEqual(verdicts, [
    "JSON requests per core of CPU used, of the floor: 0.50x met",
    "SSE chunks/s, of the floor:  not measured",
    "JSON requests/s, of Portkey: 7.00x met",
    "SSE chunks/s, of Portkey:  not measured",
    "JSON requests/s, of LiteLLM:  not measured",
    "JSON requests/s, of Bifrost:  not measured",
    "added p50 at half load, ms: 0.20 met",
    "added p99 at half load, ms: 0.20 met",
    "added TTFT p99, paced streams, ms:  not measured",
    "memory when idle, MB: 120.00 missed",
  ]);
  assert.ok(goalsOf(RESULTS, "mesh").every(({ verdict }) => verdict === "not measured"));
});

test("the report names every target, those that are absent with the reason", () => {
  const machine = {
    cpu: "c",
    cores: 2,
    memoryBytes: 8e9,
    kernel: "6",
    node: "v24",
    pinning: "pinned",
    loadAverage: 0.5,
    syncMs: 0.4,
    date: "2026-11-22",
  };
  const text = reportMarkdown(RESULTS, planOf(true), machine);
  assert.match(text, /\| Bifrost \(Go\) \| not installed \|/);
  assert.match(text, /\| Signalbox embedded \| 700 \| 1,000 \| 1,000 \|/);
  assert.match(text, /\| LiteLLM proxy \(Python\) \| not measured \|/);
  for (const line of text.split("\n").filter((row) => row.startsWith("|"))) assert.ok(line.endsWith("|"), line);
});

test("a Markdown table aligns numbers right and escapes bars", () => {
  assert.equal(markdownTable(["a", "b"], [["x|y", "1"]]), "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n");
});

test("the median of an even count lies between, of none is zero", () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1]), median([])], [2, 2.5, 0]);
});

test("the verb's table shows percentiles, and errors by kind", () => {
  const text = benchTable({
    ...reportOf(10, 5),
    errors: 3,
    errorsByKind: { "status 503": 3 },
    url: "http://x",
    model: "m",
    stream: true,
    pace: { kind: "open", rps: 10 },
  });
  assert.match(text, /^TTFT +5\.\d\d/m);
  assert.match(text, /^TPOT /m);
  assert.match(text, /error +3 {2}status 503/);
});
