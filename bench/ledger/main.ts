import { mkdtempSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import pg from "pg";
import { createMemoryBus, openNatsBus, type EventBus } from "#libs/bus/index.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { createConfigSource, Secret } from "#libs/config/index.ts";
import { compilePriceBook, type PriceIndex } from "#libs/money/index.ts";
import { createMetrics, silentLogger } from "#libs/telemetry/index.ts";
import { createCostLedger } from "#services/cost-ledger/index.ts";
import { keepNats, keepPostgres } from "#deploy/local/servers.ts";
import { spawnJsonServer } from "../harness/spawn.ts";
import { treeUsage } from "../harness/process-tree.ts";
import { buildPriceBook } from "#services/cost-ledger/index.ts";
import { ingest, type IngestReport } from "./ingest.ts";
import { askCosts } from "./queries.ts";
import { ledgerConfig, Traffic } from "./traffic.ts";

const SERVICE = fileURLToPath(new URL("./service-main.ts", import.meta.url));

const USAGE = `usage: npm run bench:ledger -- [--entries N] [--store postgres|sqlite] [--dir FOLDER] [--keep]

  --entries  attempts to settle, of a month of 10 million (default 200000)
  --store    postgres (the mesh: outbox, NATS JetStream, PostgreSQL; default) or sqlite (one process)
  --dir      folder for the servers and the outbox (default: a temporary one)
  --keep     keep that folder
`;

/** What one bench works with. */
interface Bench {
  readonly bus: EventBus;
  readonly cpuMs: () => Readonly<Record<string, number>>;
  /** Asks for sums over the store. */
  readonly queries: () => Promise<void>;
  readonly storeBytes: () => Promise<number>;
  stop(): Promise<void>;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      entries: { type: "string", default: "200000" },
      store: { type: "string", default: "postgres" },
      dir: { type: "string" },
      keep: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) return say(USAGE.trimEnd());
  const entries = Number(values.entries);
  const folder = values.dir ?? mkdtempSync(join(tmpdir(), "signalbox-bench-ledger-"));
  say(
    `${entries} entries into ${values.store}, ${cpus().length} x ${cpus()[0]?.model.trim() ?? "unknown CPU"}, Node ${process.version}; ${folder}`,
  );
  const bench = values.store === "sqlite" ? await startEmbedded(folder) : await startMesh(folder);
  try {
    const before = bench.cpuMs();
    const report = await ingest({ bus: bench.bus, folder: join(folder, "outbox"), traffic: new Traffic(prices(), entries), entries, say });
    tell(report, before, bench.cpuMs());
    say(`store: ${((await bench.storeBytes()) / 2 ** 30).toFixed(2)} GiB`);
    await bench.queries();
  } finally {
    await bench.stop();
    if (values.keep !== true) rmSync(folder, { recursive: true, force: true });
  }
}

function prices(): PriceIndex {
  return compilePriceBook(buildPriceBook(ledgerConfig(new Secret("store", () => "sqlite::memory:")), []).book);
}

function tell(report: IngestReport, before: Readonly<Record<string, number>>, after: Readonly<Record<string, number>>): void {
  const seconds = report.tookMs / 1000;
  say(
    `ingest: ${report.entries} entries in ${seconds.toFixed(1)} s = ${Math.round(report.entries / seconds)} entries/s, from the first append to the last commit`,
  );
  say(`slowest ${report.windowS} s: ${Math.round(report.slowestPerS)} entries/s; whole ones: ${report.windows}`);
  for (const [name, cpuMs] of Object.entries(after)) {
    say(`CPU ${name}: ${(((cpuMs - (before[name] ?? 0)) * 1000) / report.entries).toFixed(1)} us an entry`);
  }
}

/** PostgreSQL (fsync on), NATS and the ledger in processes of their own; this one is the ingress. */
async function startMesh(folder: string): Promise<Bench> {
  const postgres = await keepPostgres(join(folder, "postgres"));
  const nats = await keepNats(join(folder, "nats"));
  const service = await spawnJsonServer([process.execPath, SERVICE, postgres.url, nats.url], join(folder, "ledger.log"));
  const bus = await openNatsBus({ clock: systemClock, random: systemRandom, logger: silentLogger, url: nats.url, name: "bench-ingress" });
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  return {
    bus,
    cpuMs: () => {
      const own = ownCpuMs();
      const ledger = treeUsage([service.server.pid]).cpuMs;
      return { "ingress (this process)": own, ledger, "postgres and nats": treeUsage([process.pid]).cpuMs - own - ledger };
    },
    storeBytes: async () => {
      const { rows } = await client.query<{ size: string }>("SELECT pg_database_size(current_database())::text AS size");
      return Number(rows[0]!.size);
    },
    queries: async () => {
      await client.query("ANALYZE");
      const { rows } = await client.query<{ rollups: string }>("SELECT count(*)::text AS rollups FROM rollups");
      say(`roll-up rows: ${rows[0]!.rollups}`);
      await askCosts(postgres.url, say);
    },
    stop: async () => {
      await service.server.stop();
      await bus.close();
      await client.end();
      await nats.stop();
      await postgres.stop();
    },
  };
}

/** Everything in this process, as `serve` without a role: memory bus, SQLite on a thread. */
async function startEmbedded(folder: string): Promise<Bench> {
  const common = { clock: systemClock, random: systemRandom, logger: silentLogger };
  const bus = createMemoryBus({ clock: systemClock, logger: silentLogger });
  const path = join(folder, "ledger.db");
  const config = createConfigSource(ledgerConfig(new Secret("store", () => `sqlite:${path}`)));
  const host = createCostLedger({ ...common, bus, config, metrics: createMetrics() });
  await host.module.start();
  return {
    bus,
    cpuMs: () => ({ "everything (this process)": ownCpuMs() }),
    storeBytes: () => Promise.resolve(statSync(path).size),
    queries: () => askCosts(host.ledger, say),
    stop: async () => {
      await host.module.stop();
      await bus.close();
    },
  };
}

function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
