import type { FakeClock } from "#libs/clock/fake.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { SimulatedCloud } from "./cloud.ts";
import type { EngineCall, SimulatedEngine } from "./engine.ts";
import { type Fault, type Failure, failureOf } from "./faults.ts";
import type { TraceRequest } from "./trace.ts";

/** A backend of the pool: a GPU server that is rented, or a cloud that is paid per token. */
export interface PoolBackend {
  readonly name: string;
  readonly server: SimulatedEngine | SimulatedCloud;
  /** USD per hour; 0 for clouds. */
  readonly rentUsd: number;
  /** What is wrong with it now: new requests fail by it, running ones go on. */
  fault: Fault | undefined;
  /** Requests it was sent, failed ones included. */
  sent: number;
}

/** Class of a request in the evaluation. */
export type EvaluationClass = "interactive" | "standard" | "batch";

/** One request as a router sees it. Routers must not read `outputTokens`: only oracles may. */
export interface PoolRequest extends TraceRequest {
  readonly id: number;
  readonly tenant: string;
  readonly class: EvaluationClass;
  readonly ttftSloMs: number;
  readonly tpotSloMs: number;
}

/** What a router may ask of the pool: gauges as an engine's /metrics would show them now. */
export interface PoolView {
  readonly backends: readonly PoolBackend[];
  readonly clock: Clock;
}

/** What a router can do with one request. */
export interface Placement {
  /** Sends it to a backend, with a priority for engines that take one (lower goes first). Again only after `failed` or `withdraw`. */
  send(backend: number, priority?: number): void;
  /** Takes it back from where it runs; it counts as neither failed nor done. */
  withdraw(): void;
  /** Gives the client an error, which says why. Ends the request. */
  refuse(reason: string): void;
}

/** Chooses backends for requests. */
export interface Router {
  readonly name: string;
  /** Decides now, or later when it makes the request wait. */
  arrive(request: PoolRequest, placement: Placement): void;
  firstToken?(request: PoolRequest, backend: number, ttftMs: number, cachedTokens: number): void;
  /** A sample of the gap between output tokens, at most ten a second per request. */
  gap?(request: PoolRequest, backend: number, gapMs: number, generated: number): void;
  done?(request: PoolRequest, backend: number, tookMs: number): void;
  /** The backend failed it before the first token. Without this method the client gets the error. */
  failed?(request: PoolRequest, backend: number, failure: Failure, placement: Placement): void;
  close?(): void;
}

/** What became of one request. */
export interface RequestResult {
  readonly request: PoolRequest;
  /** Backend that answered; -1 = none. */
  readonly backend: number;
  /** Why it got no answer; empty = it got one. */
  readonly error: string;
  /** Times it was sent to a backend. */
  readonly attempts: number;
  /** Virtual time of arrival and end, ms. */
  readonly arrivedMs: number;
  readonly endedMs: number;
  /** From arrival until it was last sent to a backend, ms: its wait at the router, with attempts that failed. */
  readonly waitedMs: number;
  /** From arrival, waiting at the router included, ms; Infinity when it never came. */
  readonly ttftMs: number;
  /** Mean ms per output token after the first. */
  readonly tpotMs: number;
  readonly endToEndMs: number;
  /** Per-token money paid to a cloud, USD. */
  readonly costUsd: number;
}

/** Least ms between gap samples of one request: what the ingress sends at most. */
const GAP_SAMPLE_MS = 100;

/** Virtual time after which a run is called stuck, beyond the last arrival, ms. */
const DRAIN_MS = 4 * 3_600_000;

/** Promises of production modules (scrapes, polls) get their turns at least this often in virtual time, ms. */
const SETTLE_MS = 20;

/** Turns that carry any promise chain of a router or module to its end. */
const SETTLE_TURNS = 8;

/** Runs requests through a router over a pool in virtual time and returns what became of each, in order of arrival. */
export async function runPool(
  clock: FakeClock,
  view: PoolView,
  router: Router,
  requests: readonly PoolRequest[],
): Promise<RequestResult[]> {
  const run = new PoolRun(clock, view, router, requests);
  const results = await run.toEnd();
  router.close?.();
  return results;
}

class PoolRun {
  readonly clock: FakeClock;
  readonly view: PoolView;
  readonly router: Router;
  readonly results: RequestResult[] = [];
  /** Requests that have not ended, and those of them that have arrived but run nowhere. */
  open: number;
  idle = 0;
  readonly #latestMs: number;

  constructor(clock: FakeClock, view: PoolView, router: Router, requests: readonly PoolRequest[]) {
    this.clock = clock;
    this.view = view;
    this.router = router;
    this.open = requests.length;
    this.#latestMs = clock.monotonicMs() + (requests.at(-1)?.atMs ?? 0) + DRAIN_MS;
    for (const request of requests) clock.after(request.atMs, () => new Flight(this, request).start());
  }

  async toEnd(): Promise<RequestResult[]> {
    const { clock, router } = this;
    let settleAtMs = 0;
    while (this.open > 0) {
      const next = clock.nextAtMs();
      if (next === undefined || next > this.#latestMs) throw new Error(`${router.name}: ${this.open} requests never ended`);
      clock.runUntil(next);
      // A router that makes requests wait answers by promise, and modules behind it have some of their own.
      if (this.idle === 0 && next < settleAtMs) continue;
      settleAtMs = next + SETTLE_MS;
      for (let turn = 0; turn < SETTLE_TURNS; turn++) await Promise.resolve();
    }
    return this.results;
  }
}

/** One request on its way. */
class Flight implements Placement {
  readonly #run: PoolRun;
  readonly #request: PoolRequest;
  #arrivedMs = 0;
  #attempts = 0;
  #sentMs = 0;
  #recall: (() => void) | undefined;

  constructor(run: PoolRun, request: PoolRequest) {
    this.#run = run;
    this.#request = request;
  }

  start(): void {
    this.#arrivedMs = this.#run.clock.monotonicMs();
    this.#run.idle++;
    this.#run.router.arrive(this.#request, this);
  }

  send(index: number, priority = 0): void {
    const { clock, view, router } = this.#run;
    const backend = view.backends[index]!;
    this.#run.idle--;
    this.#attempts++;
    this.#sentMs = clock.monotonicMs();
    backend.sent++;
    const { fault } = backend;
    if (fault === undefined) {
      this.#recall = backend.server.submit(this.#call(index, backend, priority));
      return;
    }
    const timer = clock.after(fault.afterMs, () => {
      this.#leave();
      const failure = failureOf(fault);
      if (router.failed) router.failed(this.#request, index, failure, this);
      else this.refuse(failure.reason);
    });
    this.#recall = () => timer.cancel();
  }

  withdraw(): void {
    this.#recall?.();
    this.#leave();
  }

  refuse(reason: string): void {
    this.#run.idle--;
    const never = Number.POSITIVE_INFINITY;
    this.#end({ backend: -1, error: reason, ttftMs: never, tpotMs: never, endToEndMs: never, costUsd: 0 });
  }

  /** It runs nowhere now. */
  #leave(): void {
    this.#recall = undefined;
    this.#run.idle++;
  }

  #call(index: number, backend: PoolBackend, priority: number): EngineCall {
    const request = this.#request;
    const { clock, router } = this.#run;
    const sentMs = clock.monotonicMs();
    let firstMs = 0;
    let sampledMs = 0;
    let sampledAt = 1;
    return {
      inputTokens: request.inputTokens,
      outputTokens: request.outputTokens,
      blocks: request.blocks,
      priority,
      onFirstToken: (cached) => {
        firstMs = sampledMs = clock.monotonicMs();
        router.firstToken?.(request, index, firstMs - sentMs, cached);
      },
      onToken: (generated) => {
        const nowMs = clock.monotonicMs();
        if (nowMs - sampledMs < GAP_SAMPLE_MS) return;
        router.gap?.(request, index, (nowMs - sampledMs) / (generated - sampledAt), generated);
        sampledMs = nowMs;
        sampledAt = generated;
      },
      onDone: () => {
        const nowMs = clock.monotonicMs();
        this.#end({
          backend: index,
          error: "",
          ttftMs: firstMs - this.#arrivedMs,
          tpotMs: request.outputTokens > 1 ? (nowMs - firstMs) / (request.outputTokens - 1) : 0,
          endToEndMs: nowMs - this.#arrivedMs,
          costUsd: costOf(backend, request),
        });
        router.done?.(request, index, nowMs - sentMs);
      },
    };
  }

  #end(result: Pick<RequestResult, "backend" | "error" | "ttftMs" | "tpotMs" | "endToEndMs" | "costUsd">): void {
    const { clock, results } = this.#run;
    this.#run.open--;
    results[this.#request.id] = {
      request: this.#request,
      attempts: this.#attempts,
      arrivedMs: this.#arrivedMs,
      waitedMs: Math.max(0, this.#sentMs - this.#arrivedMs),
      endedMs: clock.monotonicMs(),
      ...result,
    };
  }
}

function costOf(backend: PoolBackend, request: PoolRequest): number {
  if (!("inputUsd" in backend.server.profile)) return 0;
  const { inputUsd, outputUsd } = backend.server.profile;
  return (request.inputTokens * inputUsd + request.outputTokens * outputUsd) / 1e6;
}
