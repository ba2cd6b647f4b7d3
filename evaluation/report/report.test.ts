import assert from "node:assert/strict";
import { test } from "node:test";
import { intervalOf, pairedDifference } from "../statistics.ts";
import { quantile } from "../score.ts";
import { markdownOf } from "./markdown.ts";
import { svgOf } from "./plots.ts";
import type { StoredResult } from "./files.ts";

const RESULT: StoredResult = {
  id: "S2",
  title: "A pool",
  sources: "0123abcd",
  cpuS: 12,
  quick: true,
  seeds: 1,
  text: ["What it is."],
  tables: [
    {
      title: "Figures",
      columns: [
        { key: "router", label: "router", unit: "text" },
        { key: "met", label: "targets met", unit: "share" },
        { key: "late", label: "late", unit: "ms" },
      ],
      rows: [
        { router: "a", met: { mean: 0.912, half: 0.01, count: 3 }, late: Number.POSITIVE_INFINITY },
        { router: "b", met: 0.5 },
      ],
    },
  ],
  plots: [
    {
      file: "p",
      title: "Curve",
      xLabel: "x",
      yLabel: "y",
      share: true,
      series: [
        {
          name: "a",
          points: [
            { x: 1, y: 0.5, half: 0.1 },
            { x: 2, y: 0.4 },
          ],
        },
      ],
    },
  ],
  checks: [{ what: "w", goal: "g", value: "v", met: false }],
};

test("the report shows goals, intervals, what never came and what does not apply", () => {
  const text = markdownOf({ S2: JSON.parse(JSON.stringify(RESULT)) as StoredResult });
  assert.match(text, /\| S2 \| w \| g \| v \| \*\*no\*\* \|/);
  assert.match(text, /\| a \| 91\.2 ± 1\.0 % \| never \|/);
  assert.match(text, /\| b \| 50\.0 % \| {2}\|/);
  assert.match(text, /router sources 0123abcd/);
  assert.match(text, /!\[Curve\]\(p\.svg\)/);
});

test("a plot becomes an SVG with its names in it", async () => {
  const svg = await svgOf(RESULT.plots[0]!);
  assert.match(svg, /^<svg/);
  assert.match(svg, /Curve/);
});

test("intervals follow Student's t, and paired ones ignore what both share", () => {
  const { mean, half } = intervalOf([1, 2, 3]);
  assert.equal(mean, 2);
  assert.ok(Math.abs(half - 4.3 / Math.sqrt(3)) < 1e-9);
  assert.deepEqual(pairedDifference([10, 20, 30], [9, 19, 29]), { mean: 1, half: 0, count: 3 });
  assert.equal(intervalOf([7]).half, 0);
  assert.equal(quantile([1, 2, 3, 4], 0.5), 2);
  assert.equal(quantile([1, 2, 3, 4], 0.99), 4);
});
