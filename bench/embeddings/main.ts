import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { freePorts } from "#deploy/local/ports.ts";
import { spawnJsonServer, spawnServer, waitFor } from "../harness/spawn.ts";
import { withSection } from "../section.ts";
import { burst, type Destination, hangUp, oneByOne, paced } from "./send.ts";

// `npm run bench:embeddings`: many single inputs over a backend whose every call costs 20 ms, with and without sharing calls.

const LAUNCHER = fileURLToPath(new URL("../../bin/signalbox", import.meta.url));
const UPSTREAM = fileURLToPath(new URL("upstream-main.ts", import.meta.url));
const REPORT = fileURLToPath(new URL("../../docs/benchmarks.md", import.meta.url));

/** Requests at once, and of those that may not share calls: they take 20 ms each, so fewer tell the same. */
const TOGETHER = 1_000;
const ALONE = 250;

/** Rate at which waiting for others is measured: 60 % of what the backend can do call by call. */
const RATE_PER_S = 30;
const PACED = 300;
const IDLE = 100;

/** Nano-USD per token in the configuration below. */
const NANO_PER_TOKEN = 1_000n;

const { values } = parseArgs({ options: { out: { type: "string", default: REPORT } } });

function configText(port: number): string {
  return `version: 1
server: { drain: { delay: 0s, grace: 2s } }
backends:
  embedder: { provider: vllm, url: "http://127.0.0.1:${port}/v1", model: embedder, context: 8k, capabilities: [embeddings], concurrency: { mode: fixed, max: 2 }, price: { per_million: { input: $1 } } }
models:
  embedder: { candidates: [embedder], class: interactive }
classes:
  interactive: { queue: 5000, max_wait: 60s }
`;
}

interface Row {
  readonly what: string;
  readonly goal: string;
  readonly value: string;
  readonly met: boolean;
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "signalbox-embeddings-"));
  const upstream = await spawnJsonServer<{ port: number }>([process.execPath, UPSTREAM], join(folder, "upstream.log"));
  writeFileSync(join(folder, "signalbox.yaml"), configText(upstream.ready.port));
  const [api, admin, grpc] = await freePorts(3);
  const ports = ["--port", String(api), "--admin-port", String(admin), "--grpc-port", String(grpc)];
  const command = [LAUNCHER, "serve", "--config", join(folder, "signalbox.yaml"), "--data-dir", join(folder, "data"), ...ports];
  const gateway = spawnServer(command, join(folder, "gateway.log"), { NO_COLOR: "1", SIGNALBOX_LOG_LEVEL: "warn" }, folder);
  try {
    await waitFor(gateway, `http://127.0.0.1:${admin}/readyz`, (status) => status === 200);
    const direct = `http://127.0.0.1:${upstream.ready.port}`;
    const rows = await measure(direct, `http://127.0.0.1:${api}`, `http://127.0.0.1:${admin}`, join(folder, "data"));
    const text = markdownOf(rows);
    process.stdout.write(text);
    writeFileSync(values.out, withSection(readFileSync(values.out, "utf8"), "embeddings", text));
  } finally {
    hangUp();
    await gateway.stop();
    await upstream.server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(direct: string, api: string, admin: string, dataDir: string): Promise<Row[]> {
  const shared: Destination = { url: api, alone: false };
  const single: Destination = { url: api, alone: true };
  const bare: Destination = { url: direct, alone: false };
  await burst(shared, TOGETHER / 5);
  await burst(single, ALONE / 5);

  const without = await burst(single, ALONE);

  const plain = await burst(bare, ALONE);

  const booked = await ledgerSums(admin, dataDir, 0);
  const before = await figuresOf(direct);

  const withBatches = await burst(shared, TOGETHER);
  const after = await figuresOf(direct);

  const entries = await ledgerSums(admin, dataDir, booked.entries + TOGETHER);
  const idleShared = middle(await oneByOne(shared, IDLE));
  const idleSingle = middle(await oneByOne(single, IDLE));
  const loadDirect = middle(await paced(bare, RATE_PER_S, PACED));
  const loadShared = middle(await paced(shared, RATE_PER_S, PACED));
  const provider = after.tokens - before.tokens;
  const tokens = entries.tokens - booked.tokens;
  const nano = entries.nano - booked.nano;
  const gain = withBatches.perS / without.perS;
  const errors = without.failed + plain.failed + withBatches.failed;
  return [
    {
      what: `${TOGETHER} single inputs at once: a second, in ${after.calls - before.calls} calls`,
      goal: ">= 5x those that share no call",
      value: `${withBatches.perS.toFixed(0)}, ${gain.toFixed(1)}x (without sharing ${without.perS.toFixed(0)}, without a gateway ${plain.perS.toFixed(0)})`,
      met: gain >= 5,
    },
    {
      what: `added p50 at ${RATE_PER_S} requests/s`,
      goal: "<= 5 ms",
      value: `${(loadShared - loadDirect).toFixed(1)} ms (${loadShared.toFixed(1)} against ${loadDirect.toFixed(1)} without a gateway)`,
      met: loadShared - loadDirect <= 5,
    },
    {
      what: "added p50 of waiting for others, one request at a time",
      goal: "0",
      value: `${(idleShared - idleSingle).toFixed(1)} ms (${idleShared.toFixed(1)} against ${idleSingle.toFixed(1)} for those that share no call)`,
      met: idleShared - idleSingle <= 1,
    },
    {
      what: "tokens: callers were told, entries booked, the backend counted",
      goal: "equal",
      value: `${withBatches.tokens}, ${tokens}, ${provider}`,
      met: withBatches.tokens === provider && tokens === provider,
    },
    {
      what: "cost booked, nano-USD",
      goal: String(BigInt(provider) * NANO_PER_TOKEN),
      value: String(nano),
      met: nano === BigInt(provider) * NANO_PER_TOKEN,
    },
    { what: "requests that failed", goal: "0", value: String(errors), met: errors === 0 },
  ];
}

function middle(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)]!;
}

async function figuresOf(direct: string): Promise<{ calls: number; tokens: number }> {
  return (await (await fetch(`${direct}/figures`)).json()) as { calls: number; tokens: number };
}

/** Sums over all entries, once there are at least `least`. */
async function ledgerSums(admin: string, dataDir: string, least: number): Promise<{ entries: number; tokens: number; nano: bigint }> {
  const token = readFileSync(join(dataDir, "admin.token"), "utf8").trim();
  for (let last = -1; ;) {
    const answer = await fetch(`${admin}/api/ledger/entries`, { headers: { authorization: `Bearer ${token}` } });
    const lines = (await answer.text()).split("\n").filter((line) => line !== "");
    // Booked in the background: when nothing comes any more, everything has come.
    if (lines.length >= least && lines.length === last) {
      const entries = lines.map((line) => JSON.parse(line) as { input_tokens: string; cost_nano_usd: string });
      const tokens = entries.reduce((sum, entry) => sum + Number(entry.input_tokens), 0);
      return { entries: entries.length, tokens, nano: entries.reduce((sum, entry) => sum + BigInt(entry.cost_nano_usd), 0n) };
    }
    last = lines.length;
    await new Promise((resolve) => void setTimeout(resolve, 500));
  }
}

function markdownOf(rows: readonly Row[]): string {
  const lines = rows.map(({ what, goal, value, met }) => `| ${what} | ${goal} | ${value} | ${met ? "yes" : "**no**"} |`);
  return `## Embeddings in micro-batches

Made by \`npm run bench:embeddings\`: an embedded gateway, and a backend that takes its calls one after the other, 20 ms for each and 0.1 ms
for each input in it. "Share no call" are the same requests through the same gateway, each with other dimensions. Load average of
the machine at the end: ${loadavg()[0]!.toFixed(1)}.

| what | goal | measured | met |
|---|---|---|---|
${lines.join("\n")}
`;
}

await main();
