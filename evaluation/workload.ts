import { SeededRandom } from "#libs/clock/fake.ts";
import type { EvaluationClass, PoolRequest } from "./pool.ts";
import { sliceTrace, type SliceOptions, type Trace, type TraceName } from "./trace.ts";

/** Targets of a request: time to first token and mean time per output token, ms. */
export interface Slo {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

/**
 * Targets by trace. The Azure traces take the plan's. Mooncake's prompts are 12,000 to 15,000 tokens: an L40S alone needs 1.3 to 1.7 s
 * to compute one, so the first token is due after 5 s, and since each such prompt holds up everybody's decode for its time, 100 ms per token.
 */
export const SLOS: Readonly<Record<TraceName, Slo>> = {
  "azure-conv": { ttftMs: 1_000, tpotMs: 50 },
  "azure-code": { ttftMs: 1_000, tpotMs: 50 },
  "mooncake-conversation": { ttftMs: 5_000, tpotMs: 100 },
  "mooncake-synthetic": { ttftMs: 5_000, tpotMs: 100 },
};

/** Who sends a request and how urgent it is. */
export interface Sender {
  readonly tenant: string;
  readonly class: EvaluationClass;
}

const ALONE: Sender = { tenant: "tenant-a", class: "interactive" };

/** Requests of a slice of a trace, all of one interactive tenant unless `senderOf` says otherwise. */
export function requestsOf(trace: Trace, slice: SliceOptions, slo: Slo, senderOf: (id: number) => Sender = () => ALONE): PoolRequest[] {
  return sliceTrace(trace, slice).requests.map((request, id) => ({
    ...request,
    ...senderOf(id),
    id,
    ttftSloMs: slo.ttftMs,
    tpotSloMs: slo.tpotMs,
  }));
}

/** Draws the class of each request: `share` of them batch. */
export function batchShare(share: number, seed: number): (id: number) => Sender {
  const random = new SeededRandom(seed);
  const batch: boolean[] = [];
  return (id) => {
    while (batch.length <= id) batch.push(random.next() < share);
    return { tenant: "tenant-a", class: batch[id]! ? "batch" : "interactive" };
  };
}

/** Merges streams of requests in order of arrival and numbers them anew. */
export function merge(...streams: readonly (readonly PoolRequest[])[]): PoolRequest[] {
  return streams
    .flat()
    .sort((a, b) => a.atMs - b.atMs)
    .map((request, id) => ({ ...request, id }));
}

/** Equal slices from the start of a trace: `count` of them, `size` requests each, or as large as there is room for. */
export function slicesOf(trace: Trace, count: number, size: number): readonly Pick<SliceOptions, "from" | "count">[] {
  const each = Math.min(size, Math.floor(trace.requests.length / count));
  const step = Math.floor(trace.requests.length / count);
  return Array.from({ length: count }, (_, at) => ({ from: at * step, count: each }));
}
