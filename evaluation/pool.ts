import type { Clock } from "#libs/clock/index.ts";
import type { FakeClock } from "#libs/clock/fake.ts";
import { SimulatedCloud } from "./cloud.ts";
import { SimulatedEngine, type EngineCall } from "./engine.ts";
import type { TraceRequest } from "./trace.ts";

/** A backend of the pool: a GPU server that is rented, or a cloud that is paid per token. */
export interface PoolBackend {
  readonly name: string;
  readonly server: SimulatedEngine | SimulatedCloud;
  /** USD per hour; 0 for clouds. */
  readonly rentUsd: number;
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

/** Chooses backends for requests. */
export interface Router {
  readonly name: string;
  /** Calls `place` with a backend's index now, or later when it makes the request wait; `reject` when it refuses. */
  arrive(request: PoolRequest, place: (backend: number) => void, reject: () => void): void;
  firstToken?(request: PoolRequest, backend: number, ttftMs: number, cachedTokens: number): void;
  /** A sample of the gap between output tokens, at most ten a second per request. */
  gap?(request: PoolRequest, backend: number, gapMs: number, generated: number): void;
  done?(request: PoolRequest, backend: number, tookMs: number): void;
  close?(): void;
}

/** What became of one request. */
export interface RequestResult {
  readonly request: PoolRequest;
  /** -1 = refused. */
  readonly backend: number;
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

/** Runs requests through a router over a pool in virtual time and returns what became of each, in order of arrival. */
export async function runPool(
  clock: FakeClock,
  view: PoolView,
  router: Router,
  requests: readonly PoolRequest[],
): Promise<RequestResult[]> {
  const results: RequestResult[] = [];
  const start = clock.monotonicMs();
  let open = requests.length;
  let waiting = 0;
  for (const request of requests) {
    clock.after(request.atMs, () => arrive(request));
  }
  function arrive(request: PoolRequest): void {
    const arrivedMs = clock.monotonicMs();
    const reject = (): void => {
      open--;
      waiting--;
      results[request.id] = {
        request,
        backend: -1,
        ttftMs: Number.POSITIVE_INFINITY,
        tpotMs: Number.POSITIVE_INFINITY,
        endToEndMs: Number.POSITIVE_INFINITY,
        costUsd: 0,
      };
    };
    waiting++;
    router.arrive(request, (backend) => place(request, backend, arrivedMs), reject);
  }
  function place(request: PoolRequest, index: number, arrivedMs: number): void {
    waiting--;
    const backend = view.backends[index]!;
    const placedMs = clock.monotonicMs();
    let firstMs = 0;
    let sampledMs = 0;
    let sampledAt = 1;
    const call: EngineCall = {
      inputTokens: request.inputTokens,
      outputTokens: request.outputTokens,
      blocks: request.blocks,
      priority: request.class === "batch" ? 10 : 1,
      onFirstToken: (cached) => {
        firstMs = sampledMs = clock.monotonicMs();
        router.firstToken?.(request, index, firstMs - placedMs, cached);
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
        open--;
        results[request.id] = {
          request,
          backend: index,
          ttftMs: firstMs - arrivedMs,
          tpotMs: request.outputTokens > 1 ? (nowMs - firstMs) / (request.outputTokens - 1) : 0,
          endToEndMs: nowMs - arrivedMs,
          costUsd: costOf(backend, request),
        };
        router.done?.(request, index, nowMs - placedMs);
      },
    };
    backend.server.submit(call);
  }
  const last = start + (requests.at(-1)?.atMs ?? 0) + DRAIN_MS;
  while (open > 0) {
    const next = clock.nextAtMs();
    if (next === undefined || next > last) throw new Error(`${router.name}: ${open} requests never ended`);
    clock.runUntil(next);
    // A router that makes requests wait answers by promise; two turns carry the answer here.
    if (waiting > 0) {
      await null;
      await null;
      await null;
    }
  }
  router.close?.();
  return results;
}

function costOf(backend: PoolBackend, request: PoolRequest): number {
  if (!(backend.server instanceof SimulatedCloud)) return 0;
  const { inputUsd, outputUsd } = backend.server.profile;
  return (request.inputTokens * inputUsd + request.outputTokens * outputUsd) / 1e6;
}
