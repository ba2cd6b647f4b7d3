import type { Pace } from "./load/index.ts";

/** One kind of load every target is put under. */
export interface Scenario {
  readonly id: ScenarioId;
  readonly title: string;
  readonly stream: boolean;
  /** Whether the upstream takes its time between chunks. */
  readonly isPaced: boolean;
  /** `half` = open loop at half of what the target itself reached in json-64. */
  readonly pace: Pace | "half";
  /** Chunks of an answer that streams. */
  readonly tokens: number;
}

export type ScenarioId = "json-1" | "json-16" | "json-64" | "sse-128" | "half" | "paced";

/** Prompt of every request: about 1 KB. */
export const PROMPT_TOKENS = 220;

/** Chunks of a streamed answer. */
export const CHUNKS = 50;

/** Streams under way in the paced scenario. */
const PACED_STREAMS = 500;
const PACED_STREAMS_QUICK = 100;

const closed = (concurrency: number): Pace => ({ kind: "closed", concurrency });

/** How long and how often. */
export interface Plan {
  readonly scenarios: readonly Scenario[];
  readonly rounds: number;
  readonly warmupMs: number;
  readonly durationMs: number;
  /** What each target gets once before anything is measured, of each kind of answer: for its first tens of thousands of requests code is still being compiled, on other threads but on the same CPU. */
  readonly preheatMs: number;
}

/** The whole plan, or its one-minute form. json-64 stands before half, which needs its result. */
export function planOf(isQuick: boolean): Plan {
  const streams = isQuick ? PACED_STREAMS_QUICK : PACED_STREAMS;
  return {
    scenarios: [
      { id: "json-1", title: "JSON, 1 at a time", stream: false, isPaced: false, pace: closed(1), tokens: CHUNKS },
      { id: "json-16", title: "JSON, 16 at a time", stream: false, isPaced: false, pace: closed(16), tokens: CHUNKS },
      { id: "json-64", title: "JSON, 64 at a time", stream: false, isPaced: false, pace: closed(64), tokens: CHUNKS },
      { id: "half", title: "JSON, open loop at half of its own saturation", stream: false, isPaced: false, pace: "half", tokens: CHUNKS },
      { id: "sse-128", title: `SSE of ${CHUNKS} chunks, 128 streams`, stream: true, isPaced: false, pace: closed(128), tokens: CHUNKS },
      {
        id: "paced",
        title: `SSE paced at 25 tokens/s, ${streams} streams`,
        stream: true,
        isPaced: true,
        pace: closed(streams),
        tokens: CHUNKS,
      },
    ],
    rounds: isQuick ? 1 : 3,
    warmupMs: isQuick ? 300 : 2_000,
    durationMs: isQuick ? 1_200 : 4_000,
    preheatMs: isQuick ? 1_500 : 25_000,
  };
}

/** A paced stream lasts two seconds: what is measured must hold whole ones. */
export const PACED_MIN_MS = 5_000;
