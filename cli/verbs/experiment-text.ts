import { type Fields, fieldsOf, listOf, moneyCell, msCell, shareCell, textCell, timeCell, wordsCell } from "../format.ts";
import { table, type Column } from "../table.ts";

const ARM_COLUMNS: readonly Column[] = [
  { title: "ARM" },
  { title: "WEIGHT", right: true },
  { title: "BACKENDS" },
  { title: "REQUESTS", right: true },
  { title: "ERRORS", right: true },
  { title: "TTFT", right: true },
  { title: "TPOT", right: true },
  { title: "COST", right: true },
  { title: "COST/REQUEST", right: true },
];

const METRIC_COLUMNS: readonly Column[] = [
  { title: "ARM" },
  { title: "METRIC" },
  { title: "SAMPLES", right: true },
  { title: "CONTROL", right: true },
  { title: "ARM", right: true },
  { title: "DIFFERENCE", right: true },
  { title: "95% AT EVERY MOMENT", right: true },
  { title: "BETTER OR WORSE THAN CONTROL" },
];

const REPLICA_COLUMNS: readonly Column[] = [
  { title: "REPLICA" },
  { title: "ROLE" },
  { title: "REVISION", right: true },
  { title: "CONFIRMED" },
  { title: "AFTER", right: true },
];

/** Width of a drawn interval, characters; odd, so that zero has a place of its own. */
const DRAWN = 31;

/** Metrics that are shares or scores: their differences are points; the others' are ratios. */
const POINTS: ReadonlySet<string> = new Set(["error", "retry", "refusal", "empty", "schema_valid", "tool_agreement", "quality"]);

/** An experiment with its arms side by side, intervals drawn. */
export function experimentText(experiment: Fields): string {
  const rows = listOf(experiment, "arms").map((arm) => [
    textCell(arm["name"]),
    shareCell(arm["weight"]),
    wordsCell(arm["backends"]),
    textCell(arm["requests"]),
    shareCell(arm["error_rate"]),
    msCell(arm["ttft_ms"]),
    msCell(arm["tpot_ms"]),
    moneyCell(arm["cost_nano_usd"]),
    moneyCell(arm["cost_per_request_nano_usd"]),
  ]);
  const parts = [`${headOf(experiment)}${planOf(experiment)}${warningOf(experiment)}\n`, table(ARM_COLUMNS, rows)];
  const metrics = metricRows(experiment);
  if (metrics.length > 0) parts.push(table(METRIC_COLUMNS, metrics));
  const guards = guardLine(experiment);
  if (guards !== "") parts.push(guards);
  return parts.join("\n");
}

/** Who confirmed a change, and when; empty when the answer does not say. */
export function confirmationText(answer: Fields): string {
  const replicas = listOf(answer, "replicas");
  if (answer["confirmed"] === undefined) return "";
  const rows = replicas.map((each) => [
    textCell(each["replica"]),
    textCell(each["role"]),
    textCell(each["revision"]),
    each["confirmed"] === true ? "yes" : "not yet",
    msCell(each["after_ms"]),
  ]);
  const confirmed = replicas.filter((each) => each["confirmed"] === true).length;
  const head = `revision ${textCell(answer["control_revision"])} of the control state: ${confirmed} of ${replicas.length} replicas have it`;
  return `\n${head}\n\n${table(REPLICA_COLUMNS, rows)}`;
}

function headOf(experiment: Fields): string {
  const last = listOf(experiment, "history").at(-1);
  const reason = last !== undefined && last["reason"] !== "" ? `: ${textCell(last["reason"])}` : "";
  const change = last === undefined ? "" : `, ${textCell(last["action"])} by ${textCell(last["by"])} at ${timeCell(last["at"])}${reason}`;
  return `${textCell(experiment["name"])} on ${textCell(experiment["model"])}: ${textCell(experiment["state"])}, revision ${textCell(experiment["revision"])}${change}\n`;
}

function planOf(experiment: Fields): string {
  const plan = fieldsOf(experiment["plan"]);
  const { steps, step } = plan;
  if (!Array.isArray(steps) || typeof step !== "number") return "";
  const shown = steps.map((share, at) => (at === step ? `[${shareCell(share)}]` : shareCell(share))).join(" -> ");
  return `plan: ${shown}, each at least ${msCell(plan["step_ms"])} and ${textCell(plan["step_requests"])} requests per arm\n`;
}

function warningOf(experiment: Fields): string {
  if (experiment["valid"] !== false) return "";
  return "the units do not follow the weights (sample ratio mismatch): conclude nothing from this comparison\n";
}

function metricRows(experiment: Fields): string[][] {
  const arms = listOf(experiment, "arms");
  const control = fieldsOf(arms.find((arm) => arm["name"] === experiment["control"])?.["metrics"]);
  return arms
    .filter((arm) => arm["name"] !== experiment["control"])
    .flatMap((arm) => [arm, { ...fieldsOf(arm["shadow"]), name: `${textCell(arm["name"])} (copies)` }])
    .flatMap((arm: Fields) =>
      Object.entries(fieldsOf(arm["metrics"])).map(([metric, value]) => {
        const { count, mean, difference, lower, upper } = fieldsOf(value);
        const isKnown = typeof lower === "number" && typeof upper === "number" && typeof difference === "number";
        return [
          textCell(arm["name"]),
          metric,
          textCell(count),
          meanCell(metric, fieldsOf(control[metric])["mean"]),
          meanCell(metric, mean),
          isKnown ? differenceCell(metric, difference) : "-",
          isKnown ? `${differenceCell(metric, lower)} to ${differenceCell(metric, upper)}` : "-",
          isKnown ? drawn(lower, difference, upper) : "",
        ];
      }),
    );
}

function meanCell(metric: string, mean: unknown): string {
  if (typeof mean !== "number") return "-";
  if (metric === "quality") return mean.toFixed(3);
  if (POINTS.has(metric)) return shareCell(mean);
  if (metric === "length") return `${Math.round(mean)} B`;
  return metric.startsWith("cost") ? moneyCell(Math.round(mean)) : msCell(mean);
}

function differenceCell(metric: string, value: number): string {
  const sign = value < 0 ? "-" : "+";
  const size = Math.abs(value * 100);
  const text = size >= 1_000 ? ">1000" : size.toFixed(1);
  return `${sign}${text}${POINTS.has(metric) ? "pt" : "%"}`;
}

/** The interval on a line of its own scale: `│` is no difference, `●` the estimate. */
function drawn(lower: number, difference: number, upper: number): string {
  const reach = Math.max(Math.abs(lower), Math.abs(upper), Number.EPSILON);
  const middle = (DRAWN - 1) / 2;
  const place = (value: number): number => middle + Math.round((Math.max(-reach, Math.min(reach, value)) / reach) * middle);
  const [from, at, to] = [place(lower), place(difference), place(upper)];
  return Array.from({ length: DRAWN }, (_, column) => {
    if (column === at) return "●";
    if (column === middle) return "│";
    return column >= from && column <= to ? "─" : "·";
  }).join("");
}

function guardLine(experiment: Fields): string {
  const guards = fieldsOf(experiment["guards"]);
  const standings = listOf(guards, "standings").map((each) => {
    const margin = each["margin"];
    const shown =
      typeof margin === "number" ? differenceCell(each["guard"] === "error_rate" ? "error" : textCell(each["guard"]), margin) : "-";
    return `${textCell(each["arm"])} ${textCell(each["guard"])} ${shown}: ${textCell(each["status"])}`;
  });
  return standings.length === 0 ? "" : `guards (${textCell(guards["action"])}): ${standings.join(" · ")}\n`;
}
