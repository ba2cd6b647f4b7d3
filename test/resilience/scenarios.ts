import { type Bed, NAMES } from "./bed.ts";
import { failuresOf, Load, quantile, type Seen } from "./load.ts";

/** A figure held against its goal. */
export interface Figure {
  readonly what: string;
  readonly goal: string;
  readonly value: string;
  readonly met: boolean;
}

/** One fault and what must become of it (reliability, A1, A4, A6, A7). */
export interface Scenario {
  readonly id: string;
  readonly title: string;
  run(bed: Bed, ratePerS: number, flapS: number): Promise<Figure[]>;
}

const BACKENDS = 4;
const WARM_UP_MS = 10_000;
const BUSY_MS = 3_000;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));
const seconds = (ms: number): string => (Number.isFinite(ms) ? `${(ms / 1_000).toFixed(1)} s` : "never");
const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;

/** Inference calls a backend received between two moments. */
function callsOf({ simulation }: Bed, fromMs: number, untilMs: number, backend?: string): number {
  return simulation.simulator
    .calls()
    .filter((call) => call.path.includes("completions") && call.at_ms >= fromMs && call.at_ms < untilMs)
    .filter((call) => backend === undefined || call.backend === backend).length;
}

/** The backend that was called most in the last seconds: a fault of one that hardly gets anything would prove nothing. */
function busiest(bed: Bed): string {
  const nowMs = Date.now();
  const calls = NAMES.map((name) => callsOf(bed, nowMs - BUSY_MS, nowMs, name));
  return NAMES[calls.indexOf(Math.max(...calls))]!;
}

/** From `fromMs` on, how long until all requests of a whole second were answered well, ms. */
function recoveryMs(load: Load, fromMs: number, untilMs: number): number {
  for (let at = fromMs; at < untilMs; at += 100) {
    const window = load.between(at, at + 1_000);
    if (window.length > 0 && window.every(({ ok }) => ok)) return at - fromMs;
  }
  return Number.POSITIVE_INFINITY;
}

/** From `fromMs` on, how long until the backend's share of the calls stayed within bounds for two seconds, ms. */
function shareSettledMs(bed: Bed, backend: string, fromMs: number, untilMs: number, fits: (share: number) => boolean): number {
  for (let at = fromMs; at + 2_000 <= untilMs; at += 250) {
    const all = callsOf(bed, at, at + 2_000);
    if (all > 0 && fits(callsOf(bed, at, at + 2_000, backend) / all)) return at - fromMs;
  }
  return Number.POSITIVE_INFINITY;
}

const latency = (seen: readonly Seen[]): number =>
  quantile(
    seen.map(({ tookMs }) => tookMs),
    0.99,
  );

const gray: Scenario = {
  id: "slow",
  title: "the busiest of four backends ten times as slow, without an error, for 30 s",
  run: async (bed, ratePerS) => {
    const load = new Load(bed.api, ratePerS);
    await sleep(WARM_UP_MS);
    const victim = busiest(bed);
    const faultMs = Date.now();
    bed.simulation.simulator.fault(victim, "slow", { factor: 10 });
    await sleep(30_000);
    const clearMs = Date.now();
    await load.stop();
    const share = callsOf(bed, faultMs + 10_000, clearMs, victim) / callsOf(bed, faultMs + 10_000, clearMs);
    const settled = shareSettledMs(bed, victim, faultMs, clearMs, (value) => value <= 0.5 / BACKENDS);
    const before = latency(load.between(faultMs - 5_000, faultMs));
    const after = latency(load.between(faultMs + 10_000, clearMs));
    const errors = load.seen.filter(({ ok }) => !ok);
    return [
      { what: "deweighted: share of the calls below half its part", goal: "within 10 s", value: seconds(settled), met: settled <= 10_000 },
      { what: "its share from the tenth second on", goal: "<= 12.50 %", value: percent(share), met: share <= 0.125 },
      { what: "errors clients saw", goal: "0", value: failuresOf(errors), met: errors.length === 0 },
      {
        what: "p99 from the tenth second on, against before",
        goal: "<= 1.5x",
        value: `${after.toFixed(0)} / ${before.toFixed(0)} ms`,
        met: after <= 1.5 * before,
      },
    ];
  },
};

const broken: Scenario = {
  id: "errors",
  title: "the busiest of four backends answers 500 to everything for 30 s",
  run: async (bed, ratePerS) => {
    const load = new Load(bed.api, ratePerS);
    await sleep(WARM_UP_MS);
    const victim = busiest(bed);
    const faultMs = Date.now();
    bed.simulation.simulator.fault(victim, "500", {});
    await sleep(30_000);
    const clearMs = Date.now();
    bed.simulation.simulator.clear(victim);
    await sleep(20_000);
    await load.stop();
    const during = load.between(faultMs, clearMs);
    const errors = during.filter(({ ok }) => !ok);
    const opened = bed.breakers.find(({ atMs, backend, state }) => backend === victim && state === "open" && atMs >= faultMs);
    const failuresBefore = callsOf(bed, faultMs, opened?.atMs ?? clearMs, victim);
    const openMs = (opened?.atMs ?? Number.POSITIVE_INFINITY) - faultMs;
    const extra = callsOf(bed, faultMs, clearMs) / Math.max(1, during.length);
    const closed = bed.breakers.find(({ atMs, backend, state }) => backend === victim && state === "closed" && atMs >= clearMs);
    const closeMs = (closed?.atMs ?? Number.POSITIVE_INFINITY) - clearMs;
    const trials = callsOf(bed, clearMs, closed?.atMs ?? clearMs, victim);
    return [
      { what: "errors clients saw", goal: "<= 0.1 %", value: failuresOf(errors), met: errors.length <= 0.001 * during.length },
      {
        what: "breaker opened",
        goal: "<= 1 s or <= 20 failures",
        value: `${seconds(openMs)}, ${failuresBefore} failures`,
        met: openMs <= 1_000 || failuresBefore <= 20,
      },
      { what: "calls upstream per request", goal: "<= 1.2", value: extra.toFixed(3), met: extra <= 1.2 },
      { what: "breaker closed after the fault went", goal: "<= 15 s", value: seconds(closeMs), met: closeMs <= 15_000 },
      { what: "trials until then", goal: "<= 5", value: String(trials), met: trials <= 5 },
    ];
  },
};

function allDown(kind: "refuse" | "503"): Scenario {
  return {
    id: `down-${kind}`,
    title: `all backends down for 30 s (${kind})`,
    run: async (bed, ratePerS) => {
      const load = new Load(bed.api, ratePerS);
      await sleep(WARM_UP_MS);
      const faultMs = Date.now();
      bed.simulation.simulator.fault("*", kind, kind === "503" ? { retryAfter: "absent" } : {});
      await sleep(30_000);
      const clearMs = Date.now();
      bed.simulation.simulator.clear();
      await sleep(12_000);
      await load.stop();
      // The first second belongs to the breakers: until they open, requests try.
      const during = load.between(faultMs + 1_000, clearMs - 1_000);
      const wrong = during.filter(({ status, retryAfter, shouldRetry }) => status !== 503 || retryAfter === "" || shouldRetry !== "true");
      const p99 = latency(during);
      const floor = quantile(
        load.floor.filter(({ atMs }) => atMs >= faultMs + 1_000 && atMs < clearMs).map(({ tookMs }) => tookMs),
        0.99,
      );
      const back = recoveryMs(load, clearMs, clearMs + 12_000);
      const hung = load.seen.filter(({ tookMs, status }) => status === 0 || tookMs > 30_000);
      return [
        {
          what: "answers other than 503 with retry-after and x-should-retry",
          goal: "0",
          value: failuresOf(wrong),
          met: wrong.length === 0,
        },
        {
          what: "p99 of the refusal",
          goal: "<= 50 ms",
          value: `${p99.toFixed(0)} ms of ${during.length}, where GET /v1/models takes ${floor.toFixed(0)} ms`,
          met: p99 <= 50,
        },
        { what: "requests that hung", goal: "0", value: String(hung.length), met: hung.length === 0 },
        { what: "everything answered again after the fault went", goal: "<= 5 s", value: seconds(back), met: back <= 5_000 },
      ];
    },
  };
}

const flapping: Scenario = {
  id: "flap",
  title: "the busiest of four backends down 5 s, up 5 s",
  run: async (bed, ratePerS, flapS) => {
    const load = new Load(bed.api, ratePerS);
    await sleep(WARM_UP_MS);
    const victim = busiest(bed);
    const faultMs = Date.now();
    bed.simulation.simulator.fault(victim, "500", { downMs: 5_000, upMs: 5_000 });
    await sleep(flapS * 1_000);
    const clearMs = Date.now();
    await load.stop();
    const during = load.between(faultMs, clearMs);
    const errors = during.filter(({ ok }) => !ok);
    const changes = bed.breakers.filter(({ backend, atMs }) => backend === victim && atMs >= faultMs);
    // Half open is part of being open: what counts is open and closed.
    const flips = changes.filter(({ state }, at) => state !== "half_open" && state !== lastFirm(changes, at)).length;
    const perMinute = flips / (flapS / 60);
    return [
      {
        what: `errors clients saw in ${flapS} s`,
        goal: "<= 0.1 %",
        value: `${failuresOf(errors)} of ${during.length}`,
        met: errors.length <= 0.001 * during.length,
      },
      { what: "times the breaker opened or closed, a minute", goal: "<= 4", value: perMinute.toFixed(1), met: perMinute <= 4 },
    ];
  },
};

function lastFirm(changes: readonly { readonly state: string }[], before: number): string {
  return changes.slice(0, before).findLast(({ state }) => state !== "half_open")?.state ?? "closed";
}

/** All of them, in the order they are run. */
export const SCENARIOS: readonly Scenario[] = [gray, broken, allDown("refuse"), allDown("503"), flapping];
