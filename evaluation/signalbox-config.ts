import { SimulatedCloud } from "./cloud.ts";
import type { PoolBackend } from "./pool.ts";

/** What of the production configuration a scenario chooses. */
export interface PolicyOptions {
  readonly ttftSloMs: number;
  readonly tpotSloMs: number;
  /** Whether the engines' gauges are scraped; without, only the router's own accounting is left. */
  readonly metrics?: boolean;
  /** Whether limits adapt; fixed = as many as the engines run at once, or `concurrency`. */
  readonly limits?: "adaptive" | "fixed";
  /** Most requests a machine is given at once. */
  readonly concurrency?: number;
  /** Whether scrapes get no answer at a virtual time, ms. */
  readonly scrapesFail?: (atMs: number) => boolean;
  /** Whether requests carry prefix hashes. */
  readonly prefixes?: boolean;
  /** Queue of the interactive class: requests, and s. By default as long and patient as the run. */
  readonly interactiveQueue?: { readonly queue: number; readonly maxWaitS: number };
  /** Whether the engines take a priority with each request. */
  readonly enginePriority?: boolean;
  /** What the engines are said to be: whether they share a prefix while it is being computed (vllm) or afterwards (llamacpp). */
  readonly engine?: "vllm" | "llamacpp";
  /** Share of its limit that batch may fill of a backend. */
  readonly batchCeiling?: number;
}

/**
 * signalbox.yaml for a pool: one model over all backends. Queues are as long and patient as the run, because the evaluation counts
 * late answers, and an early refusal would hide one.
 */
export function signalboxYaml(backends: readonly PoolBackend[], options: PolicyOptions): string {
  const { ttftSloMs, tpotSloMs, batchCeiling = 0.65, interactiveQueue = { queue: 100_000, maxWaitS: 20_000 } } = options;
  const lines = backends.map((backend) => backendLine(backend, options));
  const names = backends.map(({ name }) => name).join(", ");
  return [
    "version: 1",
    "backends:",
    ...lines,
    "models:",
    `  chat: { candidates: [${names}], class: interactive, sla: { ttft: ${ttftSloMs}ms, tpot: ${tpotSloMs}ms } }`,
    "classes:",
    `  interactive: { queue: ${interactiveQueue.queue}, max_wait: ${interactiveQueue.maxWaitS}s }`,
    "  standard: { queue: 100000, max_wait: 20000s }",
    `  batch: { ceiling: ${batchCeiling}, queue: 100000, max_wait: 20000s }`,
    "",
  ].join("\n");
}

function backendLine({ name, server, rentUsd }: PoolBackend, options: PolicyOptions): string {
  const { metrics = true, limits = "adaptive", enginePriority = false } = options;
  const place = `url: "http://${name}:8000/v1", model: m, context: 1M`;
  if (server instanceof SimulatedCloud) {
    const { inputUsd, outputUsd } = server.profile;
    return `  ${name}: { provider: openai-compatible, ${place}, price: { per_million: { input: $${inputUsd}, output: $${outputUsd} } } }`;
  }
  const gauges = metrics ? `, metrics: { url: "http://${name}:8000/metrics" }` : "";
  const most = options.concurrency ?? server.profile.maxSequences;
  return `  ${name}: { provider: ${options.engine ?? "vllm"}, ${place}, price: { per_hour: $${rentUsd} }, concurrency: { mode: ${limits}, min: 1, max: ${most} }, engine_priority: ${enginePriority}${gauges} }`;
}
