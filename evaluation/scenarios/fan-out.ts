import { SeededRandom } from "#libs/clock/fake.ts";
import type { PoolRequest } from "../pool.ts";
import { BLOCK_TOKENS } from "../prefix-store.ts";
import { type RouterEntry, routerOf, signalboxEntry } from "../routers.ts";
import type { Scenario, ScenarioContext } from "../scenario.ts";
import { scoreOf } from "../score.ts";
import { intervalOf } from "../statistics.ts";
import { POOLS } from "../testbed.ts";
import type { Slo } from "../workload.ts";

const LEADER_FIRST = signalboxEntry("signalbox", { engine: "llamacpp" });
const ALL_AT_ONCE = signalboxEntry("signalbox, all at once", { engine: "vllm" }, "ablation");
const ROUTERS = [
  LEADER_FIRST,
  ALL_AT_ONCE,
  signalboxEntry("signalbox, no prefix hashes", { prefixes: false }, "ablation"),
  ...["least-connections", "smg-cache-aware"].map(routerOf),
];

/** Blocks that a burst's prompts share, and ms between bursts: about the same load on the pool. */
const SIZES = [
  { blocks: 1, everyMs: 700 },
  { blocks: 2, everyMs: 1_000 },
  { blocks: 4, everyMs: 1_500 },
] as const;

/** Requests of a burst, how close together they come, ms, and bursts of a run. */
const FAN = 8;
const WITHIN_MS = 10;
const BURSTS = 120;

/** Prompt tokens of their own, and the answer's range. */
const OWN_TOKENS = 60;
const OUTPUT_MIN = 40;
const OUTPUT_SPAN = 120;

const SLO: Slo = { ttftMs: 1_000, tpotMs: 50 };

/** S12: one prompt's beginning, many requests at once, on engines that share a prefix only once it is computed. */
export const fanOut: Scenario = {
  id: "S12",
  title: "Bursts with one beginning",
  runs: (effort) => SIZES.length * ROUTERS.length * effort.seeds,
  run: async (context) => {
    const tables = [];
    const gains = [];
    for (const { blocks, everyMs } of SIZES) {
      const rows = [];
      for (const router of ROUTERS) rows.push(await rowOf(context, router, blocks, everyMs));
      const [led, loose] = [rows[0]!, rows[1]!];
      gains.push({ tokens: blocks * BLOCK_TOKENS, share: led.ttftP99.mean / loose.ttftP99.mean });
      tables.push({
        title: `${FAN} requests within ${WITHIN_MS} ms that share ${blocks * BLOCK_TOKENS} tokens, every ${everyMs / 1_000} s on ${POOLS.small.name}`,
        columns: [
          { key: "router", label: "router", unit: "text" as const },
          { key: "met", label: "targets met", unit: "share" as const },
          { key: "ttftP50", label: "TTFT p50", unit: "ms" as const },
          { key: "ttftP99", label: "TTFT p99", unit: "ms" as const },
          { key: "hits", label: "prompt tokens cached", unit: "share" as const },
        ],
        rows,
      });
    }
    return {
      text: [
        "The simulated engines hold a prefix once it is computed, as llama.cpp, TGI and Ollama do. Signalbox sends one request of a burst first and the others to the same engine at its first token, none later than it gains and none later than 250 ms; without that (all at once) every engine that gets two of them computes the beginning again.",
      ],
      tables,
      plots: [],
      checks: [
        {
          what: "Time to first token (p99) of bursts with one beginning, first one then the others against all at once",
          goal: "less than 1 time at every size",
          value: gains.map(({ tokens, share }) => `${share.toFixed(2)} at ${tokens} tokens`).join(", "),
          met: gains.every(({ share }) => share < 1),
        },
      ],
    };
  },
};

async function rowOf(context: ScenarioContext, router: RouterEntry, blocks: number, everyMs: number) {
  const policy = { ttftSloMs: SLO.ttftMs, tpotSloMs: SLO.tpotMs };
  const scores = [];
  for (let seed = 1; seed <= context.seeds; seed++) {
    const requests = bursts(blocks, everyMs, seed);
    const { results, bed, hitRate } = await context.run({ pool: POOLS.small, router, requests, policy, seed });
    scores.push({ ...scoreOf(results, bed.backends.length), hitRate });
  }
  return {
    router: router.id,
    met: intervalOf(scores.map(({ attainment }) => attainment)),
    ttftP50: intervalOf(scores.map(({ ttftP50Ms }) => ttftP50Ms)),
    ttftP99: intervalOf(scores.map(({ ttftP99Ms }) => ttftP99Ms)),
    hits: intervalOf(scores.map(({ hitRate }) => hitRate)),
  };
}

/** Bursts whose prompts begin alike; no two bursts do. */
function bursts(blocks: number, everyMs: number, seed: number): PoolRequest[] {
  const random = new SeededRandom(seed);
  const requests: Omit<PoolRequest, "id">[] = [];
  for (let burst = 0; burst < BURSTS; burst++) {
    const fromMs = burst * everyMs + (random.next() * everyMs) / 2;
    const shared = Array.from({ length: blocks }, (_, block) => (burst + 1) * SIZES.length * BLOCK_TOKENS + block);
    for (let member = 0; member < FAN; member++) {
      requests.push({
        atMs: fromMs + random.next() * WITHIN_MS,
        inputTokens: blocks * BLOCK_TOKENS + OWN_TOKENS,
        outputTokens: OUTPUT_MIN + random.int(OUTPUT_SPAN),
        blocks: shared,
        tenant: "tenant-a",
        class: "interactive",
        ttftSloMs: SLO.ttftMs,
        tpotSloMs: SLO.tpotMs,
      });
    }
  }
  return requests.sort((a, b) => a.atMs - b.atMs).map((request, id) => ({ ...request, id }));
}
