import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Plot } from "../scenario.ts";

/** Size of a plot, px. */
const WIDTH = 560;
const HEIGHT = 300;

/** Signalbox in one strong colour, the others apart from it and from each other also for the colour-blind (Okabe and Ito). */
const COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999"];

/** Draws a plot as SVG, without a screen. */
export function svgOf(plot: Plot): Promise<string> {
  const { spec } = compile(specOf(plot));
  return new vega.View(vega.parse(spec), { renderer: "none" }).toSVG();
}

function specOf({ title, xLabel, yLabel, share, logX, yRange, series }: Plot): TopLevelSpec {
  const values = series.flatMap(({ name, points }) =>
    points.map(({ x, y, half = 0 }) => ({
      name,
      x,
      y,
      low: share ? Math.max(0, y - half) : y - half,
      high: share ? Math.min(1, y + half) : y + half,
    })),
  );
  const names = series.map(({ name }) => name);
  const colour = {
    field: "name",
    type: "nominal" as const,
    title: null,
    scale: { domain: names, range: names.map((_, at) => COLOURS[at % COLOURS.length]!) },
  };
  const x = {
    field: "x",
    type: "quantitative" as const,
    title: xLabel,
    scale: logX === true ? { type: "log" as const, nice: false } : { zero: false },
  };
  const axis = share ? { format: "%" } : {};
  const scale = yRange === undefined ? { zero: false } : { domain: [...yRange], clamp: true };
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: title, fontSize: 13, anchor: "start" },
    width: WIDTH,
    height: HEIGHT,
    background: "white",
    data: { values },
    encoding: { color: colour },
    layer: [
      {
        mark: { type: "rule", opacity: 0.45 },
        encoding: { x, y: { field: "low", type: "quantitative", title: yLabel, axis, scale }, y2: { field: "high" } },
      },
      {
        mark: { type: "line", point: true, strokeWidth: 2 },
        encoding: { x, y: { field: "y", type: "quantitative", title: yLabel, axis, scale } },
      },
    ],
  };
}
