import { mkdtempSync, chmodSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { SeededRandom } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import { placeAtOnce, type Strategy } from "../baselines/accounts.ts";
import * as balancers from "../baselines/balancers.ts";
import type { PoolBackend, PoolView, RequestResult } from "../pool.ts";
import { fingerprintOf } from "../report/files.ts";
import { runOnce } from "../run.ts";
import { routerOf } from "../routers.ts";
import { quantile, type Score, scoreOf } from "../score.ts";
import { createTestbed, POOLS } from "../testbed.ts";
import { readTrace, tracesFolder } from "../trace.ts";
import { SLOS } from "../workload.ts";
import { type LiveGateway, startLive } from "./gateway.ts";
import { meshChooses, runLive } from "./live-pool.ts";
import { comparisonOf, type LiveResults, readLive, withRow, writeLive } from "./report.ts";
import { liveCase, type LiveCase } from "./workload.ts";

// `npm run evaluate:live`: the mesh on the wall clock against the virtual-time run of the same requests.

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Rivals by the ids they have in the virtual run. */
const RIVALS: Readonly<Record<string, (view: PoolView, random: SeededRandom) => Strategy>> = {
  "least-connections": balancers.leastConnections,
  p2c: balancers.powerOfTwo,
  "peak-ewma-p2c": balancers.peakEwma,
  "round-robin": balancers.roundRobin,
  "static-priority": balancers.staticPriority,
  "litellm-cost": (view) => balancers.litellmCost(view.backends.map(({ rentUsd }) => rentUsd)),
};
const POLICIES = ["signalbox", ...Object.keys(RIVALS)];

/** Longest answer, tokens. */
const OUTPUT_MAX = 200;

/** Seeds of the virtual run; its figures are their means. */
const SEEDS = 3;

const USAGE = `usage: npm run evaluate:live -- [--policies a,b] [--count N] [--stretch F] [--out FOLDER]

  --policies  these only (${POLICIES.join(", ")}); what earlier runs of the same workload found of the others stays
  --count     requests (default 250)
  --stretch   factor on all times, so that the machine carries the load (default 4)
  --out       where live.json and live.md go (default docs/evaluation)
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      policies: { type: "string" },
      count: { type: "string", default: "250" },
      stretch: { type: "string", default: "4" },
      out: { type: "string", default: join(ROOT, "docs/evaluation") },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) return say(USAGE.trimEnd());
  const policies = values.policies?.split(",") ?? POLICIES;
  const unknown = policies.find((policy) => !POLICIES.includes(policy));
  if (unknown !== undefined) throw new Error(`There is no policy '${unknown}' here; there are: ${POLICIES.join(", ")}`);
  const stretch = Number(values.stretch);
  const trace = readTrace(tracesFolder(process.env, ROOT), "azure-conv");
  const work = await liveCase(trace, POOLS.heterogeneous, SLOS["azure-conv"], {
    stretch,
    count: Number(values.count),
    from: 0,
    outputMax: OUTPUT_MAX,
  });
  const workload = wordsOf(work, stretch);
  say(workload);
  let results = readLive(values.out, machine(), workload);
  const stage = new Stage(work);
  try {
    for (const policy of policies) results = await measure(policy, stage, work, results, values.out);
  } finally {
    await stage.end();
  }
  for (const line of comparisonOf(results)) say(line);
  say(`report: ${values.out}/live.md`);
}

async function measure(policy: string, stage: Stage, work: LiveCase, before: LiveResults, out: string): Promise<LiveResults> {
  const live = await stage.run(policy);
  const virtual = await measureVirtual(policy, work);
  const errors = live.filter(({ error }) => error !== "");
  const row = {
    policy,
    live: scoreOf(live, work.pool.machines.length),
    virtual,
    errors: errors.length,
    lateP99Ms: quantile(
      live.map(({ waitedMs }) => waitedMs).sort((a, b) => a - b),
      0.99,
    ),
    loadAverage: loadavg()[0]!,
    date: new Date(systemClock.now()).toISOString(),
    sources: fingerprintOf(ROOT),
  };
  const results = withRow(before, row);
  writeLive(out, results);
  say(
    `${policy}: targets met live ${percent(row.live.attainment)}, virtual ${percent(virtual.attainment)}; TTFT p50 ${row.live.ttftP50Ms.toFixed(0)} / ${virtual.ttftP50Ms.toFixed(0)} ms; sent late p99 ${row.lateP99Ms.toFixed(0)} ms; ${errors.length} errors${errors[0] === undefined ? "" : `, the first: ${errors[0].error}`}`,
  );
  return results;
}

function wordsOf({ requests, ratePerS, slo, pool }: LiveCase, stretch: number): string {
  const spanS = requests.at(-1)!.atMs / 1_000;
  return `${requests.length} requests of the Azure conversation trace, answers up to ${OUTPUT_MAX} tokens, at ${ratePerS.toFixed(1)} a second (${spanS.toFixed(0)} s of arrivals per policy) over ${pool.name}, all times ${stretch} times as long: first token within ${slo.ttftMs / 1_000} s, ${slo.tpotMs} ms per token. The rate is where least-connections meets the targets for about 80 % in virtual time.`;
}

/** The mesh that policies are run over: one for all rivals, which it treats alike, and one for its own choice. */
class Stage {
  readonly #work: LiveCase;
  readonly #backends: readonly PoolBackend[];
  #up: { readonly forRivals: boolean; readonly gateway: LiveGateway; readonly dir: string } | undefined;

  constructor(work: LiveCase) {
    this.#work = work;
    // The engines run elsewhere: here they only say what they are.
    this.#backends = createTestbed(work.pool, 1).backends;
  }

  async run(policy: string): Promise<RequestResult[]> {
    const strategy = RIVALS[policy];
    const { target } = await this.#gateway(strategy !== undefined);
    const view: PoolView = { clock: systemClock, backends: this.#backends };
    const router = strategy === undefined ? meshChooses() : placeAtOnce(view, strategy(view, new SeededRandom(1)));
    return runLive(systemClock, view, router, this.#work.requests, target);
  }

  async end(): Promise<void> {
    await this.#up?.gateway.stop();
    if (this.#up !== undefined) rmSync(this.#up.dir, { recursive: true, force: true });
    this.#up = undefined;
  }

  async #gateway(forRivals: boolean): Promise<LiveGateway> {
    if (this.#up?.forRivals === forRivals) return this.#up.gateway;
    await this.end();
    const { pool, slo } = this.#work;
    const dir = mkdtempSync(join(tmpdir(), "signalbox-live-"));
    // PostgreSQL runs as another user when this runs as root: it must get through to its own folder.
    chmodSync(dir, 0o711);
    const gateway = await startPatiently(() => startLive(dir, pool, this.#backends, slo, forRivals));
    this.#up = { forRivals, gateway, dir };
    return gateway;
  }
}

/** Times a mesh is started: a machine that is busy with something else may take longer than its processes are waited for. */
const STARTS_MAX = 3;

async function startPatiently<T>(start: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await start();
    } catch (cause) {
      if (tries === STARTS_MAX) throw cause;
      say(`not started, once more: ${cause instanceof Error ? cause.message : String(cause)}`);
    }
  }
}

async function measureVirtual(policy: string, { pool, requests, slo }: LiveCase): Promise<Score> {
  const scores: Score[] = [];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const limits = { ttftSloMs: slo.ttftMs, tpotSloMs: slo.tpotMs };
    const { results } = await runOnce({ pool, router: routerOf(policy), requests, policy: limits, seed });
    scores.push(scoreOf(results, pool.machines.length));
  }
  const mean = (figure: (score: Score) => number): number => scores.reduce((sum, score) => sum + figure(score), 0) / SEEDS;
  return {
    requests: requests.length,
    attainment: mean(({ attainment }) => attainment),
    ttftP50Ms: mean(({ ttftP50Ms }) => ttftP50Ms),
    ttftP99Ms: mean(({ ttftP99Ms }) => ttftP99Ms),
    tpotP99Ms: mean(({ tpotP99Ms }) => tpotP99Ms),
    endToEndP99Ms: mean(({ endToEndP99Ms }) => endToEndP99Ms),
    costUsd: 0,
    shares: scores[0]!.shares.map((_, at) => mean(({ shares }) => shares[at]!)),
  };
}

function machine(): string {
  const [first] = cpus();
  return `${cpus().length} x ${first?.model.trim() ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

try {
  await main();
} catch (cause) {
  process.stderr.write(`evaluate:live: ${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}\n`);
  process.exitCode = 1;
}
