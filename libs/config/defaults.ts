import type { BackendConfig, ClassConfig, ClassName, ResilienceConfig } from "./model.ts";

/** Loopback only: reachable from elsewhere is a decision, not an accident. */
export const LOOPBACK_HOST = "127.0.0.1";
export const API_PORT = 4100;
export const ADMIN_PORT = 4101;
export const GRPC_PORT = 4102;
/** grpc-js streams between services of the mesh. */
export const MESH_PORT = 4103;

/** Holds a few images or a book-length prompt. */
export const BODY_MAX_BYTES = 20 * 1024 ** 2;
/** A client that sends its headers slower than this holds a socket for nothing. */
export const HEADER_TIMEOUT_MS = 10_000;
/** 20 MiB within a minute is 2.8 Mbit/s, less than any client worth waiting for. */
export const BODY_TIMEOUT_MS = 60_000;
/** A client that reads nothing for a minute is gone, frozen or hostile; what was generated for it is booked. */
export const READER_TIMEOUT_MS = 60_000;
/** Node's own default; bearer tokens and tags fit many times over. */
export const HEADERS_MAX_BYTES = 16 * 1024;
/** Open sockets of the API listener: below the usual limit of 16,384 file descriptors with room for upstream ones. */
export const CONNECTIONS_MAX = 10_000;
/** The time load balancers take to stop sending after readiness goes. */
export const DRAIN_DELAY_MS = 5_000;
/** The longest answers stream for minutes: ten let them end. */
export const DRAIN_GRACE_MS = 600_000;

/** Small enough for every current model; a larger window is said in the file. */
export const CONTEXT_TOKENS = 128_000;
/** Output a hard budget reserves without a caller's limit. */
export const OUTPUT_MAX_TOKENS = 8_192;
/** The version Anthropic's messages API is coded against. */
export const ANTHROPIC_VERSION = "2023-06-01";
/** vLLM's and SGLang's own default of sequences in flight is 256: the limiter finds its place below. */
export const CONCURRENCY: BackendConfig["concurrency"] = { mode: "adaptive", min: 1, max: 256 };

/**
 * Classes. Ceilings keep batch work off backends that are two thirds full, so that interactive work finds room at once.
 * An interactive caller has gone after 10 s; 60 s is a patient one. A batch call over HTTP waits as long as the stock
 * SDKs do (10 minutes); it gets at least 5 % of the tokens, so it never starves.
 */
export const CLASSES: Readonly<Record<ClassName, ClassConfig>> = {
  interactive: { ceiling: 1, queueMax: 256, maxWaitMs: 10_000, minShare: 0, deferTo: undefined },
  standard: { ceiling: 0.9, queueMax: 512, maxWaitMs: 60_000, minShare: 0, deferTo: undefined },
  batch: { ceiling: 0.65, queueMax: 10_000, maxWaitMs: 600_000, minShare: 0.05, deferTo: undefined },
};

/**
 * Attempts: 3 for a person who waits, 4 for who can, and 10 for batch work, which has time. Retries are a tenth of the
 * traffic plus 3/s (a model call costs a thousand times a usual RPC); hedges 1 % after the 95th percentile, none whose
 * duplicate costs over half a cent. Breakers open after 5 hard failures in a row or under 80 % success in 30 s of at least
 * 20 requests, for 5 s doubling to 5 minutes, and never for more than half a pool on statistics alone. A connection takes
 * a round trip, so 1 s is generous; 30 s without a token is a dead stream.
 */
export const RESILIENCE: ResilienceConfig = {
  attempts: { interactive: 3, standard: 4, batch: 10 },
  retry: { budget: 0.1, minPerS: 3 },
  hedge: { budget: 0.01, after: "p95", maxCostNanoUsd: 5_000_000n },
  breaker: { consecutive: 5, successRate: 0.8, windowMs: 30_000, minRequests: 20, openMs: 5_000, maxOpenMs: 300_000, maxEjected: 0.5 },
  // A decision between processes takes a tenth of it, and a person notices more.
  timeouts: { decideMs: 25, connectMs: 1_000, firstTokenMs: 30_000, idleStreamMs: 30_000 },
};

/** Where the ledger and the outbox live. */
export const DATA_DIR = ".signalbox";
/** Half an hour of records at 1,000 requests/s of about 500 bytes. */
export const OUTBOX_MAX_BYTES = 1024 ** 3;
/** Spans are for samples and for trouble. */
export const TRACE_SAMPLE = 0.1;
/** Every decision can be explained, as long as the ring holds it: about 250,000 records. */
export const DECISIONS_SHARE = 1;
export const DECISIONS_MAX_BYTES = 256 * 1024 ** 2;
/** People want to hear of a budget half way, near its end and at it. */
export const BUDGET_ALERTS: readonly number[] = [0.5, 0.8, 1];
/** Tenants share alike. */
export const TENANT_WEIGHT = 1;
/** What shadow copies may cost over an experiment's life unless told: a forgotten share is an annoyance, no disaster. */
export const SHADOW_BUDGET_NANO_USD = 5_000_000_000n;
/** What judges may spend on an experiment unless told: a few thousand short verdicts. */
export const JUDGE_BUDGET_NANO_USD = 5_000_000_000n;
/** Share of an experiment's answers a judge reads. */
export const JUDGE_SHARE = 0.05;
/** The model made when the file names none. */
export const DEFAULT_MODEL = "default";
