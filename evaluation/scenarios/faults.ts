import { DOWN, ERRORS, limited } from "../faults.ts";
import type { RequestResult } from "../pool.ts";
import { type RouterEntry, routerOf } from "../routers.ts";
import type { Check, Scenario, ScenarioContext, Table } from "../scenario.ts";
import { metTargets, quantile } from "../score.ts";
import { POOLS, type Testbed } from "../testbed.ts";
import { requestsOf, SLOS } from "../workload.ts";
import { firstQuiet, type Probe, watchShare } from "../watch.ts";

/** Load on four A100, requests/s: about half of what they can do, so that three can carry it. */
const RATE = 16;

/** When the fault begins, and the usual length of a run after it, ms. */
const FROM_MS = 30_000;
const FOR_MS = 60_000;
const AFTER_MS = 45_000;

/** A quarter of the fair share of one in four. */
const SHUNNED = 0.0625;

const SLOW_FACTOR = 10;
const FLAP_MS = 5_000;
const FLAPPING_MS = 300_000;
const OUTAGE_MS = 30_000;
const RETRY_AFTER_MS = 7_000;

const ROUTERS: readonly RouterEntry[] = ["signalbox", "least-connections"].map(routerOf);

/** A fault: what it does to the pool, and how long it lasts. */
interface FaultCase {
  readonly name: string;
  readonly lastsMs: number;
  begin(bed: Testbed): void;
  end(bed: Testbed): void;
}

/** Figures of one fault under one router. */
interface Outcome {
  readonly fault: string;
  readonly router: string;
  readonly attainment: number;
  readonly errors: number;
  readonly errorShare: number;
  /** Attempts per request while the fault lasts. */
  readonly attempts: number;
  /** Requests that the faulty backend got while the fault lasted. */
  readonly sentThere: number;
  /** Requests that it got in the fault's first second and first five: while a breaker is open none come. */
  readonly sentIn1s: number;
  readonly sentIn5s: number;
  /** From the fault's begin until the faulty backend gets under a quarter of its fair share, s. */
  readonly shunnedAfterS: number | undefined;
  /** From the fault's end until a second request that it answered had arrived, s: two successes close a breaker. */
  readonly answersAfterS: number | undefined;
  /** From the fault's end until it gets a quarter of its fair share again, s. */
  readonly backAfterS: number | undefined;
  /** 99th percentile of the time to an error, ms. */
  readonly errorP99Ms: number | undefined;
}

const FAULTS: readonly FaultCase[] = [
  { name: "none", lastsMs: FOR_MS, begin: () => {}, end: () => {} },
  {
    name: "brownout: one ten times slower, no errors",
    lastsMs: FOR_MS,
    begin: (bed) => void (bed.backends[0]!.server.slowdown = SLOW_FACTOR),
    end: (bed) => void (bed.backends[0]!.server.slowdown = 1),
  },
  {
    name: "one answers 500 to everything",
    lastsMs: FOR_MS,
    begin: (bed) => setFault(bed, 1, ERRORS),
    end: (bed) => setFault(bed, 1, undefined),
  },
  {
    name: "one answers 429, Retry-After 7 s",
    lastsMs: FOR_MS,
    begin: (bed) => setFault(bed, 1, limited(RETRY_AFTER_MS)),
    end: (bed) => setFault(bed, 1, undefined),
  },
  { name: "one flaps 5 s down, 5 s up", lastsMs: FLAPPING_MS, begin: flap, end: () => {} },
  { name: "all down", lastsMs: OUTAGE_MS, begin: (bed) => setFault(bed, 4, DOWN), end: (bed) => setFault(bed, 4, undefined) },
];

/** S8: what breaks, and how soon it is noticed. */
export const faults: Scenario = {
  id: "S8",
  title: "Faults",
  runs: () => ROUTERS.length * FAULTS.length + 1,
  run: async (context) => {
    const outcomes: Outcome[] = [];
    for (const fault of FAULTS) for (const router of ROUTERS) outcomes.push(await outcomeOf(context, router, fault));
    outcomes.push(await outcomeOf(context, routerOf("signalbox"), { ...FAULTS[0]!, name: "scrapes fail" }, true));
    return {
      text: [
        `Four A100 under ${RATE} Azure conversations a second; the fault begins after ${FROM_MS / 1_000} s. Only new requests fail; streams that run go on. Signalbox dispatches as the ingress does (next candidate, retry budget, time-outs); the baseline makes three attempts at different machines.`,
      ],
      tables: [tableOf(outcomes)],
      plots: [],
      checks: checksOf(outcomes),
    };
  },
};

function setFault(bed: Testbed, count: number, fault: Testbed["backends"][number]["fault"]): void {
  for (const backend of bed.backends.slice(0, count)) backend.fault = fault;
}

function flap(bed: Testbed): void {
  for (let atMs = 0; atMs < FLAPPING_MS; atMs += 2 * FLAP_MS) {
    bed.clock.after(atMs, () => setFault(bed, 1, DOWN));
    bed.clock.after(atMs + FLAP_MS, () => setFault(bed, 1, undefined));
  }
}

async function outcomeOf(context: ScenarioContext, router: RouterEntry, fault: FaultCase, scrapesFail = false): Promise<Outcome> {
  const slo = SLOS["azure-conv"];
  const untilMs = FROM_MS + fault.lastsMs;
  const count = Math.round(((untilMs + AFTER_MS) / 1_000) * RATE);
  const requests = requestsOf(context.trace("azure-conv"), { from: 0, count, ratePerS: RATE }, slo);
  const policy = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs, ...(scrapesFail ? { scrapesFail: (ms: number) => ms >= FROM_MS } : {}) };
  let probe: Probe | undefined;
  const prepare = (bed: Testbed): void => {
    probe = watchShare(bed, untilMs + AFTER_MS);
    bed.clock.after(FROM_MS, () => fault.begin(bed));
    bed.clock.after(untilMs, () => fault.end(bed));
  };
  const { results } = await context.run({ pool: POOLS.homogeneous, router, requests, policy, seed: 1, prepare });
  const during = results.filter(({ arrivedMs }) => arrivedMs >= FROM_MS && arrivedMs < untilMs);
  const failed = during.filter(({ error }) => error !== "");
  const { sentTo, share } = probe!;
  return {
    fault: fault.name,
    router: router.id,
    attainment: during.filter(metTargets).length / during.length,
    errors: failed.length,
    errorShare: failed.length / during.length,
    attempts: during.reduce((sum, { attempts }) => sum + attempts, 0) / during.length,
    sentThere: sentTo(FROM_MS, untilMs),
    sentIn1s: sentTo(FROM_MS, FROM_MS + 1_000),
    sentIn5s: sentTo(FROM_MS, FROM_MS + 5_000),
    shunnedAfterS: firstQuiet(share, FROM_MS, untilMs, (part) => part < SHUNNED),
    answersAfterS: secondAnswer(results, untilMs),
    backAfterS:
      fault.name === "all down" ? recovery(results, untilMs) : firstQuiet(share, untilMs, untilMs + AFTER_MS, (part) => part > SHUNNED),
    errorP99Ms:
      failed.length === 0
        ? undefined
        : quantile(
            failed.map(({ arrivedMs, endedMs }) => endedMs - arrivedMs).toSorted((a, b) => a - b),
            0.99,
          ),
  };
}

/** When the second request arrived that the faulty backend answered after the fault's end, s. */
function secondAnswer(results: readonly RequestResult[], untilMs: number): number | undefined {
  const second = results.filter(({ backend, arrivedMs }) => backend === 0 && arrivedMs >= untilMs)[1];
  return second === undefined ? undefined : (second.arrivedMs - untilMs) / 1_000;
}

/** From the outage's end until the last request that still got an error had arrived, s. */
function recovery(results: readonly RequestResult[], untilMs: number): number {
  const last = results
    .filter(({ error, arrivedMs }) => error !== "" && arrivedMs >= untilMs)
    .reduce((latest, { arrivedMs }) => Math.max(latest, arrivedMs), untilMs);
  return (last - untilMs) / 1_000;
}

function tableOf(outcomes: readonly Outcome[]): Table {
  return {
    title: `While the fault lasts, on ${POOLS.homogeneous.name}`,
    columns: [
      { key: "fault", label: "fault", unit: "text" },
      { key: "router", label: "router", unit: "text" },
      { key: "attainment", label: "targets met", unit: "share" },
      { key: "errors", label: "clients' errors", unit: "count" },
      { key: "errorShare", label: "their share", unit: "share" },
      { key: "attempts", label: "attempts per request", unit: "ratio" },
      { key: "sentThere", label: "sent to the faulty one", unit: "count" },
      { key: "sentIn5s", label: "in its first 5 s", unit: "count" },
      { key: "shunnedAfterS", label: "under a quarter of its share after", unit: "s" },
      { key: "answersAfterS", label: "answers again after", unit: "s" },
      { key: "backAfterS", label: "back after", unit: "s" },
      { key: "errorP99Ms", label: "time to an error, p99", unit: "ms" },
    ],
    rows: outcomes.map((outcome) => ({ ...outcome })),
    note: "Back after: until the faulty machine gets a quarter of its fair share again; all down: until the last request arrived that still got an error.",
  };
}

function checksOf(outcomes: readonly Outcome[]): Check[] {
  const of = (at: number): Outcome => outcomes.find(({ fault, router }) => fault === FAULTS[at]!.name && router === "signalbox")!;
  const [calm, slow, errors, refused, flapping, down] = FAULTS.map((_, at) => of(at));
  const blind = outcomes.at(-1)!;
  const seconds = (value: number | undefined): string => (value === undefined ? "never" : `${value.toFixed(1)} s`);
  const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
  return [
    {
      what: "Brownout: deweighted",
      goal: "within 10 s",
      value: seconds(slow!.shunnedAfterS),
      met: (slow!.shunnedAfterS ?? Number.POSITIVE_INFINITY) <= 10,
    },
    {
      what: "100 % 5xx: extra attempts",
      goal: "at most 1.2 per request",
      value: errors!.attempts.toFixed(3),
      met: errors!.attempts <= 1.2,
    },
    {
      what: "100 % 5xx: failures until the breaker is open",
      goal: "at most 20, or open within 1 s",
      value: `${errors!.sentIn5s} in 5 s, ${errors!.sentIn1s} of them in the first; ${errors!.sentThere} in the whole minute, trials included`,
      met: errors!.sentIn5s <= 20,
    },
    { what: "100 % 5xx: clients' errors", goal: "at most 0.1 %", value: percent(errors!.errorShare), met: errors!.errorShare <= 0.001 },
    {
      what: "100 % 5xx: answers again after its end",
      goal: "within 15 s",
      value: `${seconds(errors!.answersAfterS)}; a quarter of its share after ${seconds(errors!.backAfterS)}`,
      met: (errors!.answersAfterS ?? 99) <= 15,
    },
    {
      what: "429 with Retry-After 7 s for a minute: requests sent there",
      goal: "about one per 7 s",
      value: String(refused!.sentThere),
      met: refused!.sentThere <= 40 && refused!.errorShare <= 0.001,
    },
    {
      what: "Flapping 5 s / 5 s for 5 min: clients' errors",
      goal: "at most 0.1 %",
      value: percent(flapping!.errorShare),
      met: flapping!.errorShare <= 0.001,
    },
    {
      what: "All down: time to the 503, p99",
      goal: "at most 50 ms",
      value: `${Math.round(down!.errorP99Ms ?? 0)} ms`,
      met: (down!.errorP99Ms ?? 0) <= 50,
    },
    {
      what: "All down: last error after its end",
      goal: "within 5 s",
      value: seconds(down!.backAfterS),
      met: (down!.backAfterS ?? 99) <= 5,
    },
    {
      what: "Scrapes fail: targets met, against none failing",
      goal: "within 2 points",
      value: `${percent(blind.attainment)} against ${percent(calm!.attainment)}`,
      met: blind.attainment >= calm!.attainment - 0.02,
    },
  ];
}
