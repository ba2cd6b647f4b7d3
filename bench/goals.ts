import { cellOf, type BenchResults, type Cell } from "./results.ts";
import type { TargetId } from "./targets/index.ts";

/** One promise about a figure, held against what was measured. */
export interface GoalResult {
  readonly goal: string;
  readonly wanted: string;
  readonly measured: string;
  readonly verdict: "met" | "missed" | "not measured";
}

/** What each form promises, against others of the same run. */
interface Goals {
  readonly jsonOfFloor: number;
  readonly sseOfFloor: number;
  readonly jsonOfPortkey: number;
  readonly sseOfPortkey: number;
  readonly jsonOfLitellm: number;
  readonly jsonOfBifrost: number;
  readonly addedP50Ms: number;
  readonly addedP99Ms: number;
  readonly addedTtftP99Ms: number;
}

const GOALS: Readonly<Record<"embedded" | "mesh", Goals>> = {
  embedded: {
    jsonOfFloor: 0.5,
    sseOfFloor: 0.75,
    jsonOfPortkey: 7,
    sseOfPortkey: 2.5,
    jsonOfLitellm: 20,
    jsonOfBifrost: 1.5,
    addedP50Ms: 0.4,
    addedP99Ms: 1.5,
    addedTtftP99Ms: 1.5,
  },
  mesh: {
    jsonOfFloor: 0.25,
    sseOfFloor: 0.5,
    jsonOfPortkey: 3,
    sseOfPortkey: 1.5,
    jsonOfLitellm: 8,
    jsonOfBifrost: 0.7,
    addedP50Ms: 1,
    addedP99Ms: 3,
    addedTtftP99Ms: 4,
  },
};

/** Resident memory of the embedded form without load, bytes. */
const IDLE_RSS_MAX_BYTES = 110e6;

/** Every promise about `form`, with its verdict. */
export function goalsOf(results: BenchResults, form: "embedded" | "mesh"): GoalResult[] {
  const goals = GOALS[form];
  const half = cellOf(results.samples, form, "half");
  const paced = cellOf(results.samples, form, "paced");
  const idle = results.idleRssBytes.get(form);
  const rows = [
    ratio(
      results,
      form,
      "json-64",
      "floor",
      goals.jsonOfFloor,
      (cell) => cell.requestsPerCore,
      "JSON requests per core of CPU used, of the floor",
    ),
    ratio(results, form, "sse-128", "floor", goals.sseOfFloor, (cell) => cell.eventsPerSecond, "SSE chunks/s, of the floor"),
    ratio(results, form, "json-64", "portkey", goals.jsonOfPortkey, (cell) => cell.rps, "JSON requests/s, of Portkey"),
    ratio(results, form, "sse-128", "portkey", goals.sseOfPortkey, (cell) => cell.eventsPerSecond, "SSE chunks/s, of Portkey"),
    ratio(results, form, "json-64", "litellm", goals.jsonOfLitellm, (cell) => cell.rps, "JSON requests/s, of LiteLLM"),
    ratio(results, form, "json-64", "bifrost", goals.jsonOfBifrost, (cell) => cell.rps, "JSON requests/s, of Bifrost"),
    ceiling("added p50 at half load, ms", half?.addedP50, goals.addedP50Ms),
    ceiling("added p99 at half load, ms", half?.addedP99, goals.addedP99Ms),
    ceiling("added TTFT p99, paced streams, ms", paced?.addedTtftP99, goals.addedTtftP99Ms),
  ];
  if (form === "embedded")
    rows.push(ceiling("memory when idle, MB", idle === undefined ? undefined : idle / 1e6, IDLE_RSS_MAX_BYTES / 1e6));
  return rows;
}

function ratio(
  results: BenchResults,
  form: TargetId,
  scenario: "json-64" | "sse-128",
  other: TargetId,
  wanted: number,
  read: (cell: Cell) => number,
  goal: string,
): GoalResult {
  const own = cellOf(results.samples, form, scenario);
  const peer = cellOf(results.samples, other, scenario);
  const text = `>= ${wanted}x`;
  if (own === undefined || peer === undefined || read(peer) === 0) return { goal, wanted: text, measured: "", verdict: "not measured" };
  const value = read(own) / read(peer);
  return { goal, wanted: text, measured: `${value.toFixed(2)}x`, verdict: value >= wanted ? "met" : "missed" };
}

function ceiling(goal: string, value: number | undefined, limit: number): GoalResult {
  const wanted = `<= ${limit}`;
  if (value === undefined) return { goal, wanted, measured: "", verdict: "not measured" };
  return { goal, wanted, measured: value.toFixed(2), verdict: value <= limit ? "met" : "missed" };
}
