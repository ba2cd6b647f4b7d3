import type { BackendConfig, Config } from "#libs/config/model.ts";
import { CircuitBreaker, ConcurrencyLimit } from "#libs/resilience/index.ts";
import { HedgeBudget } from "./hedge-budget.ts";
import { DecayingHistogram } from "./histogram.ts";
import { INPUT_BUCKETS } from "./input-buckets.ts";
import { Leaders } from "./leaders.ts";
import { OutputLengths } from "./lengths.ts";
import { PaceGuard } from "./pace-guard.ts";
import { PrefixCache, PrefixNews } from "./prefix-cache.ts";
import { RateBucket } from "./rate-bucket.ts";
import { TenantShares } from "./shares.ts";
import type { PolicySnapshot } from "./snapshot.ts";

/** Latency observations count half after this, ms. */
const LATENCY_HALF_LIFE_MS = 5 * 60_000;

/** Concurrency an opaque backend starts with: a provider says by its first refusal when it is too much, and holding requests back says nothing. */
const OPAQUE_INITIAL_LIMIT = 256;

/** Mean output before any answer was seen, tokens. */
const MEAN_OUTPUT_PRIOR = 200;

/** Mean context of a request before any was seen, tokens. */
const MEAN_CONTEXT_PRIOR = 1_000;

/**
 * What this engine knows of one backend and changes all the time. Plain fields, because every decision reads a dozen of them for
 * every candidate. Tokens, ms (monotonic) and counts.
 */
export class BackendState {
  readonly name: string;
  config: BackendConfig;

  /** Own accounting: upstream calls sent or about to be, their uncached prompt tokens not yet past the first token, their context. */
  inFlight = 0;
  /** Requests they carry: more than calls where embeddings share one. */
  requests = 0;
  /** Most requests at once since the latest health snapshot, and between the two before. */
  inFlightPeak = 0;
  inFlightPeakBefore = 0;
  prefillTokens = 0;
  contextTokens = 0;
  /** The same of the other engines, aged. */
  peerInFlight = 0;
  peerPrefillTokens = 0;
  peerContextTokens = 0;
  /** Other engines that hold its breaker open. */
  peerBreakersOpen = 0;
  /** Requests at the engine that are nobody's of ours, as of `scrapedAtMs`. */
  foreignInFlight = 0;
  engineQueue = 0;
  kvCapacityTokens = 0;
  scrapedAtMs = Number.NEGATIVE_INFINITY;

  /** Learned ratios of the structural model: decode and prefill pace against the prior. */
  decodeRatio = 1;
  prefillRatio = 1;
  /** 90th percentile of observed over predicted time to first token. */
  ttftSpread = 1.5;
  /** Observations behind all this, up to where more do not matter. */
  samples = 0;
  learnedAtMs = Number.NEGATIVE_INFINITY;
  gapLearnedAtMs = Number.NEGATIVE_INFINITY;
  /** Since when every gap has looked like an outlier; Infinity = the last one did not. */
  gapOutliersSinceMs = Number.POSITIVE_INFINITY;
  /** Fixed part of the time to first token, ms, as of `fixedAtMs`; fades. */
  fixedMs = 0;
  fixedAtMs = 0;
  /** Uncached prompt tokens dispatched a second, averaged over five seconds, as of `prefillRateAtMs`. */
  prefillRate = 0;
  prefillRateAtMs = 0;
  meanOutput = MEAN_OUTPUT_PRIOR;
  meanContext = MEAN_CONTEXT_PRIOR;
  /** Mean uncached prompt of a request, tokens. */
  meanUncached = MEAN_CONTEXT_PRIOR;
  /** Latencies as observed: time to first token by input bucket, time per output token. */
  readonly ttft: readonly DecayingHistogram[] = INPUT_BUCKETS.map(() => new DecayingHistogram(LATENCY_HALF_LIFE_MS));
  readonly tpot = new DecayingHistogram(LATENCY_HALF_LIFE_MS);
  /** What its prefix cache is believed to hold, and what other engines have not been told of that. */
  readonly prefixes = new PrefixCache();
  readonly prefixNews = new PrefixNews();
  /** The answers of this engine that run there. */
  readonly paces = new PaceGuard();
  /** Prompts it is computing, where its engine shares them only afterwards. */
  readonly leaders = new Leaders();
  engineRestarts = 0;
  /** Artificial time to first token after a refusal, ms, as of `biasAtMs`; decays. */
  biasMs = 0;
  biasAtMs = 0;

  breaker: CircuitBreaker;
  limit: ConcurrencyLimit;
  /** Concurrency that decisions hold it to: the lowest of what the parts allow, recomputed four times a second. */
  limitValue: number;
  /** Since when it has had more than it can do at its pace; Infinity = it has not. */
  overloadSinceMs = Number.POSITIVE_INFINITY;
  rates: RateBucket;
  /** Since when it ramps up again after being closed; -Infinity = it does not. */
  rampSinceMs = Number.NEGATIVE_INFINITY;

  /** From the health monitor. */
  ejected = false;
  /** Ejected although nobody holds its breaker open: for its pace, stalls or empty answers. */
  ejectedAlive = false;
  degraded = false;
  healthReason = "";
  /** Since when its liveness call fails while its breaker is open; Infinity = it does not. */
  deadSinceMs = Number.POSITIVE_INFINITY;
  healthAtMs = Number.NEGATIVE_INFINITY;
  modelLoaded = true;

  constructor(config: BackendConfig, resilience: Config["resilience"], structural: boolean, nowMs: number) {
    this.name = config.name;
    this.config = config;
    this.breaker = new CircuitBreaker(resilience.breaker, nowMs);
    this.limit = limitOf(config, structural);
    this.limitValue = this.limit.value;
    this.rates = new RateBucket(config.limits, nowMs);
    this.prefillRateAtMs = nowMs;
  }

  /** Requests in flight over all engines, and those of others at the backend. */
  get load(): number {
    return this.inFlight + this.peerInFlight + this.foreignInFlight;
  }
}

function limitOf(config: BackendConfig, structural: boolean): ConcurrencyLimit {
  const { mode, min, max } = config.concurrency;
  const initial = mode === "fixed" || structural ? max : Math.min(max, OPAQUE_INITIAL_LIMIT);
  return new ConcurrencyLimit({ min: mode === "fixed" ? max : min, max, initial });
}

/** The engine's mutable state: one BackendState per backend of the snapshot in force, in its order. */
export class EngineState {
  backends: readonly BackendState[] = [];
  readonly lengths = new OutputLengths();
  /** Whether there are other engines whose loads are not known now. */
  loadsStale = false;
  readonly hedges = new HedgeBudget();
  /** What tenants take up, and which backends are kept clear of the heavy ones. */
  readonly shares = new TenantShares();
  readonly #byName = new Map<string, BackendState>();

  constructor(snapshot: PolicySnapshot, nowMs: number) {
    this.rebind(snapshot, nowMs);
  }

  /** The state of a backend by name, if it is configured. */
  byName(name: string): BackendState | undefined {
    return this.#byName.get(name);
  }

  /** Follows a new snapshot: what is known of backends that stay is kept, their limits only if unchanged. */
  rebind(snapshot: PolicySnapshot, nowMs: number): void {
    this.backends = snapshot.backends.map((backend) => {
      const known = this.#byName.get(backend.name);
      const fresh = new BackendState(backend.config, snapshot.config.resilience, backend.structural, nowMs);
      if (known === undefined) return fresh;
      if (known.config.url !== backend.config.url || known.config.model !== backend.config.model) return carryLoad(fresh, known);
      const { concurrency, limits } = known.config;
      if (
        concurrency.mode !== backend.config.concurrency.mode ||
        concurrency.min !== backend.config.concurrency.min ||
        concurrency.max !== backend.config.concurrency.max
      ) {
        known.limit = fresh.limit;
        known.limitValue = fresh.limitValue;
      }
      if (limits.rpm !== backend.config.limits.rpm || limits.tpm !== backend.config.limits.tpm) known.rates = fresh.rates;
      known.breaker.configure(snapshot.config.resilience.breaker, nowMs);
      known.config = backend.config;
      return known;
    });
    this.#byName.clear();
    for (const state of this.backends) this.#byName.set(state.name, state);
  }
}

/** Another machine under an old name: nothing learned holds; requests still in flight release the old object. */
function carryLoad(fresh: BackendState, known: BackendState): BackendState {
  fresh.peerInFlight = known.peerInFlight;
  return fresh;
}
