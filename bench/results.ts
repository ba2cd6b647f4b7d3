import type { LoadReport } from "./load/index.ts";
import type { ScenarioId } from "./plan.ts";
import type { TargetId } from "./targets/index.ts";

/** One run of one target under one load. */
export interface Sample {
  readonly target: TargetId;
  readonly scenario: ScenarioId;
  readonly report: LoadReport;
  /** CPU of the gateway's processes while it was measured, ms; 0 for direct. */
  readonly cpuMs: number;
  readonly rssBytes: number;
  /** Direct in the same round, at the same rate or concurrency; undefined for direct itself. */
  readonly baseline: LoadReport | undefined;
}

/** Medians over the rounds of one target under one load. */
export interface Cell {
  readonly rps: number;
  readonly eventsPerSecond: number;
  readonly errors: number;
  /** CPU per request, us; 0 = not known. */
  readonly cpuUs: number;
  /** What one core of CPU would carry, by the CPU used: requests (or SSE events) per CPU second; 0 = not known. */
  readonly requestsPerCore: number;
  readonly eventsPerCore: number;
  readonly p50: number;
  readonly p99: number;
  readonly ttftP50: number;
  readonly ttftP99: number;
  readonly addedP50: number;
  readonly addedP99: number;
  readonly addedTtftP50: number;
  readonly addedTtftP99: number;
  readonly rssBytes: number;
}

/** Everything one bench run found out. */
export interface BenchResults {
  readonly samples: readonly Sample[];
  readonly idleRssBytes: ReadonlyMap<TargetId, number>;
  /** Targets that were not measured, and why. */
  readonly absent: ReadonlyMap<TargetId, string>;
}

/** Middle value; the mean of the two middle ones for an even count; 0 for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return 0;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The medians of a target under a load; undefined when it was not measured. */
export function cellOf(samples: readonly Sample[], target: TargetId, scenario: ScenarioId): Cell | undefined {
  const own = samples.filter((sample) => sample.target === target && sample.scenario === scenario);
  if (own.length === 0) return undefined;
  const middle = (read: (sample: Sample) => number): number => median(own.map(read));
  const added = (read: (report: LoadReport) => number): number =>
    middle(({ report, baseline }) => (baseline === undefined ? 0 : read(report) - read(baseline)));
  const perCpuSecond = (count: number, cpuMs: number): number => (cpuMs > 0 ? count / (cpuMs / 1000) : 0);
  return {
    rps: middle(({ report }) => report.rps),
    eventsPerSecond: middle(({ report }) => report.eventsPerSecond),
    errors: own.reduce((sum, { report }) => sum + report.errors, 0),
    cpuUs: middle(({ report, cpuMs }) => (report.ok === 0 ? 0 : (cpuMs * 1000) / report.ok)),
    requestsPerCore: middle(({ report, cpuMs }) => perCpuSecond(report.ok, cpuMs)),
    eventsPerCore: middle(({ report, cpuMs }) => perCpuSecond((report.eventsPerSecond * report.durationMs) / 1000, cpuMs)),
    p50: middle(({ report }) => report.latency.p50),
    p99: middle(({ report }) => report.latency.p99),
    ttftP50: middle(({ report }) => report.ttft.p50),
    ttftP99: middle(({ report }) => report.ttft.p99),
    addedP50: added((report) => report.latency.p50),
    addedP99: added((report) => report.latency.p99),
    addedTtftP50: added((report) => report.ttft.p50),
    addedTtftP99: added((report) => report.ttft.p99),
    rssBytes: Math.max(...own.map(({ rssBytes }) => rssBytes)),
  };
}
