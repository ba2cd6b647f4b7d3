import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { existsSync } from "node:fs";
import { join } from "node:path";

/** One request of a trace. */
export interface TraceRequest {
  /** Arrival, ms from the trace's start. */
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Ids of its 512-token prompt blocks, outermost first; equal ids are equal content. Empty = nothing is shared. */
  readonly blocks: readonly number[];
}

/** A trace by name, in order of arrival. */
export interface Trace {
  readonly name: string;
  readonly requests: readonly TraceRequest[];
}

/** The four traces and their files. */
export const TRACE_FILES = {
  "azure-conv": "AzureLLMInferenceTrace_conv.csv",
  "azure-code": "AzureLLMInferenceTrace_code.csv",
  "mooncake-conversation": "mooncake_conversation_trace.jsonl.gz",
  "mooncake-synthetic": "mooncake_synthetic_trace.jsonl.gz",
} as const;

/** Name of a trace. */
export type TraceName = keyof typeof TRACE_FILES;

/** Folder of the traces: SIGNALBOX_TRACES, else ../shared/traces. Throws with where to get them when they are absent. */
export function tracesFolder(env: Readonly<Record<string, string | undefined>>, root: string): string {
  const folder = env["SIGNALBOX_TRACES"] ?? join(root, "../shared/traces");
  if (existsSync(join(folder, TRACE_FILES["azure-conv"]))) return folder;
  throw new Error(
    `No traces in ${folder}. Set SIGNALBOX_TRACES to a folder with AzureLLMInferenceTrace_{conv,code}.csv (Azure/AzurePublicDataset) ` +
      "and mooncake_{conversation,synthetic}_trace.jsonl.gz (kvcache-ai/Mooncake, FAST25-release/traces).",
  );
}

/** Reads a trace whole. Requests without output get one token: every answer has at least one. */
export function readTrace(folder: string, name: TraceName): Trace {
  const file = join(folder, TRACE_FILES[name]);
  const requests = file.endsWith(".csv")
    ? readAzure(readFileSync(file, "utf8"))
    : readMooncake(gunzipSync(readFileSync(file)).toString("utf8"));
  return { name, requests };
}

function readAzure(text: string): TraceRequest[] {
  const rows = text
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => line.split(","));
  const times = rows.map(([time]) => Date.parse(`${time!.replace(" ", "T").slice(0, 23)}Z`));
  const start = times[0]!;
  return rows.map(([, input, output], index) => ({
    atMs: times[index]! - start,
    inputTokens: Math.max(1, Number(input)),
    outputTokens: Math.max(1, Number(output)),
    blocks: [],
  }));
}

function readMooncake(text: string): TraceRequest[] {
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const row = JSON.parse(line) as { timestamp: number; input_length: number; output_length: number; hash_ids: number[] };
      return {
        atMs: row.timestamp,
        inputTokens: Math.max(1, row.input_length),
        outputTokens: Math.max(1, row.output_length),
        blocks: row.hash_ids,
      };
    });
}

/** How to cut and compress a trace. */
export interface SliceOptions {
  /** First request taken. */
  readonly from: number;
  readonly count: number;
  /** Mean arrivals per second after compression; the gaps keep their proportions. */
  readonly ratePerS: number;
}

/** A slice of a trace at another mean rate. */
export function sliceTrace(trace: Trace, { from, count, ratePerS }: SliceOptions): Trace {
  const taken = trace.requests.slice(from, from + count);
  const first = taken[0]?.atMs ?? 0;
  const spanMs = Math.max(1, (taken.at(-1)?.atMs ?? 0) - first);
  const factor = ((taken.length - 1) * 1000) / (ratePerS * spanMs);
  return { name: trace.name, requests: taken.map((request) => ({ ...request, atMs: (request.atMs - first) * factor })) };
}
