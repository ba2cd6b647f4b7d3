import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startOtlpSink } from "./harness/otlp-sink.ts";
import { spawnJsonServer } from "./harness/spawn.ts";
import { treeUsage } from "./harness/process-tree.ts";
import { measureAll } from "./measure.ts";
import { reportMarkdown, type Machine } from "./markdown.ts";
import { planOf } from "./plan.ts";
import { sectionOf } from "./section.ts";
import { median, type BenchResults } from "./results.ts";
import { onPath } from "./targets/peers.ts";
import { TARGETS, type BenchEnvironment, type RunningTarget, type TargetId } from "./targets/index.ts";

/** The gateway's core, and everybody else's. */
const GATEWAY_CORE = "0";
const LOAD_CORE = "1";

const REPORT = fileURLToPath(new URL("../docs/benchmarks.md", import.meta.url));
const UPSTREAM = fileURLToPath(new URL("./upstream.ts", import.meta.url));

const USAGE = `usage: npm run bench -- [--quick] [--only direct,floor,embedded,...] [--rounds N] [--out FILE] [--keep]

  --quick   one short round (about a minute) instead of three
  --only    these targets only: ${TARGETS.map(({ id }) => id).join(", ")}
  --rounds  rounds instead of the plan's
  --out     where the report goes (default docs/benchmarks.md)
  --keep    keep the folder with configurations and logs
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean" },
      only: { type: "string" },
      rounds: { type: "string" },
      out: { type: "string" },
      keep: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) return say(USAGE.trimEnd());
  const plan = { ...planOf(values.quick === true), ...(values.rounds === undefined ? {} : { rounds: Number(values.rounds) }) };
  const only = values.only?.split(",");
  const folder = mkdtempSync(join(tmpdir(), "signalbox-bench-"));
  const machine = describeMachine(folder);
  say(`bench in ${folder}; ${machine.pinning}`);
  const canPin = isPinned();
  const pinLoad = canPin ? ["taskset", "-c", LOAD_CORE] : [];
  const sink = await startOtlpSink();
  const upstream = await spawnJsonServer<{ port: number; pacedPort: number }>(
    [...pinLoad, process.execPath, UPSTREAM],
    `${folder}/upstream.log`,
  );
  const environment: BenchEnvironment = {
    upstreamPort: upstream.ready.port,
    pacedPort: upstream.ready.pacedPort,
    pin: canPin ? ["taskset", "-c", GATEWAY_CORE] : [],
    folder,
    otlpEndpoint: sink.endpoint,
  };
  const running = new Map<TargetId, RunningTarget>();
  try {
    const absent = await startTargets(running, environment, only);
    const idleRssBytes = new Map(
      [...running].filter(([id]) => id !== "direct").map(([id, target]) => [id, treeUsage(target.roots()).rssBytes]),
    );
    const samples = await measureAll({ running, plan, pinLoad, say });
    const results: BenchResults = { samples, idleRssBytes, absent };
    const out = values.out ?? REPORT;
    mkdirSync(dirname(out), { recursive: true });
    const embeddings = existsSync(out) ? sectionOf(readFileSync(out, "utf8"), "embeddings") : undefined;
    writeFileSync(out, [reportMarkdown(results, plan, machine), ...(embeddings === undefined ? [] : [`\n${embeddings}`])].join(""));
    say(`report: ${out}`);
  } finally {
    for (const target of [...running.values()].toReversed()) await target.stop();
    await upstream.server.stop();
    sink.server.closeAllConnections();
    sink.server.close();
    if (values.keep !== true) rmSync(folder, { recursive: true, force: true });
  }
}

/** Starts every target that is wanted; returns why others are absent. */
async function startTargets(
  running: Map<TargetId, RunningTarget>,
  environment: BenchEnvironment,
  only: readonly string[] | undefined,
): Promise<Map<TargetId, string>> {
  const absent = new Map<TargetId, string>();
  for (const target of TARGETS) {
    if (only !== undefined && !only.includes(target.id)) {
      absent.set(target.id, "left out");
      continue;
    }
    try {
      if (target.compiles === true) await (await target.start(environment))?.stop();
      const started = await target.start(environment);
      if (started === undefined) absent.set(target.id, "not installed");
      else running.set(target.id, started);
    } catch (failure) {
      absent.set(target.id, "did not start");
      say(`${target.title} did not start: ${(failure as Error).message}`);
    }
    say(`${target.title}: ${absent.get(target.id) ?? "up"}`);
  }
  return absent;
}

function isPinned(): boolean {
  return cpus().length >= 2 && onPath("taskset") !== undefined && canUseCores();
}

/** Whether both cores may be used by this process at all. */
function canUseCores(): boolean {
  try {
    execFileSync("taskset", ["-c", `${GATEWAY_CORE},${LOAD_CORE}`, "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Writes of 300 bytes with fdatasync, as each answer waits for one; the median, ms. */
function syncMs(folder: string): number {
  const file = openSync(join(folder, "sync"), "w");
  const record = Buffer.alloc(300);
  const times = Array.from({ length: 200 }, () => {
    const startMs = performance.now();
    writeSync(file, record);
    fdatasyncSync(file);
    return performance.now() - startMs;
  });
  closeSync(file);
  return median(times);
}

function describeMachine(folder: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown CPU",
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
    pinning: isPinned()
      ? `the gateway on core ${GATEWAY_CORE}; load generator, upstream and collector on core ${LOAD_CORE}`
      : "not pinned: no taskset here",
    loadAverage: loadavg()[0]!,
    syncMs: syncMs(folder),
    date: new Date().toISOString().slice(0, 10),
  };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
