import assert from "node:assert/strict";
import { test } from "node:test";
import { createMetrics } from "./cells.ts";

test("counters, gauges and histograms render in the Prometheus text format", () => {
  const metrics = createMetrics();
  metrics.counter("requests_total", "Requests.", ["model"]).with("chat").add(2);
  metrics.gauge("depth", "Depth.").with().set(3);
  const histogram = metrics.histogram("took_seconds", "Took.", [0.1, 1], ["model"]).with("chat");
  for (const value of [0.05, 0.1, 0.5, 7, Number.NaN]) histogram.observe(value);
  const text = metrics.render();
  assert.match(text, /^# TYPE requests_total counter\nrequests_total\{model="chat"\} 2$/m);
  assert.match(text, /^depth 3$/m);
  assert.match(
    text,
    /took_seconds_bucket\{model="chat",le="0.1"\} 2\n.*le="1"\} 3\n.*le="\+Inf"\} 4\ntook_seconds_sum\{model="chat"\} 7\.65\ntook_seconds_count\{model="chat"\} 4/,
  );
});

test("a family stops growing at its bound and books the rest under other", () => {
  const metrics = createMetrics();
  const family = metrics.counter("models_total", "Models.", ["model"]);
  for (let index = 0; index < 5_000; index++) family.with(`model-${index}`).add();
  const lines = metrics
    .render()
    .split("\n")
    .filter((line) => line.startsWith("models_total{"));
  assert.equal(lines.length, 1_001);
  assert.ok(lines.includes('models_total{model="other"} 4000'));
});

test("label values cannot break the format", () => {
  const metrics = createMetrics();
  metrics.counter("x_total", "X.", ["tag"]).with('a"b\\c\nd\u0000e').add();
  assert.match(metrics.render(), /x_total\{tag="a\\"b\\\\c\\nd\?e"\} 1/);
});

test("collectors run before each scrape", () => {
  const metrics = createMetrics();
  const gauge = metrics.gauge("now", "Now.").with();
  let reads = 0;
  metrics.onScrape(() => gauge.set(++reads));
  metrics.render();
  assert.match(metrics.render(), /^now 2$/m);
});
