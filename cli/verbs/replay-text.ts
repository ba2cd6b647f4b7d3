import type { ReplayReport, ReplaySide } from "../actions.ts";
import { moneyCell, msCell, shareCell, textCell } from "../format.ts";
import { table, type Column } from "../table.ts";

const COLUMNS: readonly Column[] = [
  { title: "" },
  { title: "RECORDED", right: true },
  { title: "REPLAYED", right: true },
  { title: "CHANGE", right: true },
];

const SHARE_COLUMNS: readonly Column[] = [
  { title: "FIRST CHOICE" },
  { title: "RECORDED", right: true },
  { title: "REPLAYED", right: true },
  { title: "" },
];

/** Width of a drawn bar, characters. */
const BAR = 30;

/** What a replay changes, printed and drawn. */
export function replayText(report: ReplayReport): string {
  const { before, after, same, replayed } = report;
  const rows = [
    row(
      "cost",
      moneyCell(before.cost_nano_usd),
      moneyCell(after.cost_nano_usd),
      ratio(Number(before.cost_nano_usd), Number(after.cost_nano_usd)),
    ),
    row("time to first token", msCell(before.mean_ttft_ms), msCell(after.mean_ttft_ms), ratio(before.mean_ttft_ms, after.mean_ttft_ms)),
    row("time per output token", msCell(before.mean_tpot_ms), msCell(after.mean_tpot_ms), ratio(before.mean_tpot_ms, after.mean_tpot_ms)),
    row("denied", String(before.denied), String(after.denied), String(after.denied - before.denied)),
  ];
  const left = Object.entries(report.left).map(([why, count]) => `  ${count} not replayed: ${textCell(why)}\n`);
  const head = `${report.records} decisions recorded, ${replayed} replayed, ${same} the same (${percent(same, replayed)})\n`;
  const parts = [`${head}${left.join("")}`, table(COLUMNS, rows), table(SHARE_COLUMNS, shareRows(before, after, "backends"))];
  const arms = shareRows(before, after, "arms");
  if (arms.length > 0) parts.push(table([{ title: "ARM" }, ...SHARE_COLUMNS.slice(1)], arms));
  return parts.join("\n");
}

function row(...cells: readonly string[]): readonly string[] {
  return cells;
}

function ratio(before: number, after: number): string {
  if (!(before > 0)) return "-";
  const change = (after / before - 1) * 100;
  return `${change < 0 ? "" : "+"}${change.toFixed(1)}%`;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(2)}%`;
}

function shareRows(before: ReplaySide, after: ReplaySide, by: "backends" | "arms"): (readonly string[])[] {
  return sharesOf(before, after, by).map(({ name, was, is }) => [textCell(name), shareCell(was), shareCell(is), bars(was, is)]);
}

function sharesOf(before: ReplaySide, after: ReplaySide, by: "backends" | "arms"): { name: string; was: number; is: number }[] {
  const total = (side: ReplaySide): number =>
    Math.max(
      1,
      Object.values(side[by]).reduce((sum, count) => sum + count, 0),
    );
  const [all, now] = [total(before), total(after)];
  return [...new Set([...Object.keys(before[by]), ...Object.keys(after[by])])]
    .map((name) => ({ name, was: (before[by][name] ?? 0) / all, is: (after[by][name] ?? 0) / now }))
    .toSorted((a, b) => b.was - a.was || b.is - a.is);
}

/** Both shares on one line: `█` recorded and still there, `▓` gained, `░` lost. */
function bars(was: number, is: number): string {
  const [from, to] = [Math.round(was * BAR), Math.round(is * BAR)];
  return "█".repeat(Math.min(from, to)) + (to > from ? "▓" : "░").repeat(Math.abs(to - from));
}

/** The same as one HTML page with charts drawn in it: no script, nothing fetched. */
export function replayHtml(report: ReplayReport): string {
  const { before, after, minutes } = report;
  const cost = minutes.map(({ before: was, after: is }) => [Number(was.cost_nano_usd) / 1e9, Number(is.cost_nano_usd) / 1e9] as const);
  const ttft = minutes.map(({ before: was, after: is }) => [was.mean_ttft_ms, is.mean_ttft_ms] as const);
  const charts = [
    lines("Predicted cost, USD a minute", cost),
    lines("Predicted time to first token, ms", ttft),
    shares("Share of first choices", sharesOf(before, after, "backends")),
    shares("Share of arms", sharesOf(before, after, "arms")),
  ];
  const style =
    "body{font:14px system-ui;margin:2em;max-width:60em}pre{background:#f4f4f4;padding:1em;overflow:auto}svg{display:block;margin:1em 0}";
  const legend = `<p><span style="color:${WAS}">\u25a0</span> recorded <span style="color:${IS}">\u25a0</span> replayed</p>`;
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Signalbox replay</title><style>${style}</style><h1>Replay</h1><pre>${escape(replayText(report))}</pre>${legend}${charts.join("")}</html>\n`;
}

/** Colours apart from each other also for the colour-blind (Okabe and Ito). */
const WAS = "#0072b2";
const IS = "#d55e00";
const WIDTH = 640;
const HEIGHT = 180;

function lines(title: string, values: readonly (readonly [number, number])[]): string {
  if (values.length < 2) return "";
  const most = Math.max(...values.flat(), Number.EPSILON);
  const path = (side: 0 | 1): string =>
    values
      .map((pair, at) => `${((at / (values.length - 1)) * WIDTH).toFixed(1)},${(HEIGHT - (pair[side] / most) * (HEIGHT - 30)).toFixed(1)}`)
      .join(" ");
  const drawn = ([0, 1] as const)
    .map((side) => `<polyline points="${path(side)}" fill="none" stroke="${side === 0 ? WAS : IS}" stroke-width="2"/>`)
    .join("");
  return `<svg width="${WIDTH}" height="${HEIGHT}" role="img"><title>${title}</title><text x="0" y="14">${title}, at most ${most.toPrecision(3)}</text>${drawn}</svg>`;
}

function shares(title: string, rows: readonly { readonly name: string; readonly was: number; readonly is: number }[]): string {
  if (rows.length === 0) return "";
  const bar = (y: number, share: number, colour: string): string =>
    `<rect x="160" y="${y}" width="${(share * (WIDTH - 230)).toFixed(1)}" height="10" fill="${colour}"/><text x="${(165 + share * (WIDTH - 230)).toFixed(1)}" y="${y + 10}" font-size="11">${(share * 100).toFixed(1)} %</text>`;
  const drawn = rows.map(
    ({ name, was, is }, at) =>
      `<text x="0" y="${42 + at * 32}">${escape(name)}</text>${bar(26 + at * 32, was, WAS)}${bar(38 + at * 32, is, IS)}`,
  );
  return `<svg width="${WIDTH}" height="${30 + rows.length * 32}" role="img"><title>${title}</title><text x="0" y="14">${title}</text>${drawn.join("")}</svg>`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
