import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts } from "#deploy/local/ports.ts";
import { spawnJsonServer, spawnServer, waitFor } from "../harness/spawn.ts";
import { chatBody, type LoadReport, runLoadInChild } from "../load/index.ts";

/** What shadow copies cost the clients: the same load on a model without experiment and on models whose every request is copied to an arm that is dead, hangs, or answers garbage. */

const LAUNCHER = fileURLToPath(new URL("../../bin/signalbox", import.meta.url));
const UPSTREAM = fileURLToPath(new URL("../upstream.ts", import.meta.url));

/** Models by the arm their requests are copied to. */
const ARMS = ["none", "dead", "slow", "garbage"] as const;
type Arm = (typeof ARMS)[number];

/** Loads: whole answers from an upstream that answers at once (the gateway's own time shows), and streams of 8 tokens at 25 tokens/s (what clients see). */
const LOADS = [
  { name: "json", stream: false, tokens: 16, rps: 50, paced: false },
  { name: "sse", stream: true, tokens: 8, rps: 15, paced: true },
] as const;

/** Many short rounds in turns: a slow moment of the machine then hits every arm alike. */
const ROUNDS = 8;
const WARMUP_MS = 500;
const DURATION_MS = 2_000;

const PROMPT_TOKENS = 250;

function listen(answer: Parameters<typeof createServer>[1]): Promise<{ server: Server; port: number }> {
  const server = createServer(answer!);
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve({ server, port: (server.address() as AddressInfo).port })));
}

function configText(ports: Readonly<Record<Arm | "fast" | "paced", number>>): string {
  const backend = (port: number): string =>
    `{ provider: openai-compatible, url: "http://127.0.0.1:${port}/v1", model: m, context: 128k, concurrency: { mode: fixed, max: 4096 }, price: { per_million: { input: $0.25, output: $2.00 } } }`;
  const lines = ["version: 1", "auth: { mode: open }", "backends:"];
  for (const name of ["fast", "paced", "dead", "slow", "garbage"] as const) lines.push(`  ${name}: ${backend(ports[name])}`);
  lines.push("models:");
  const models = LOADS.flatMap(({ name, paced }) =>
    ARMS.map((arm) => ({ model: `${name}-${arm}`, arm, primary: paced ? "paced" : "fast" })),
  );
  for (const { model, arm, primary } of models)
    lines.push(`  ${model}: { candidates: [${arm === "none" ? primary : `${primary}, ${arm}`}] }`);
  lines.push("experiments:");
  for (const { model, arm, primary } of models.filter(({ arm: each }) => each !== "none")) {
    const arms = `{ control: { weight: 100%, backends: [${primary}] }, next: { weight: 0%, backends: [${arm}] } }`;
    lines.push(`  x-${model}: { model: ${model}, unit: request, arms: ${arms}, share_shadow: 100%, shadow_budget: $1000 }`);
  }
  return `${lines.join("\n")}\n`;
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "signalbox-bench-shadow-"));
  const upstream = await spawnJsonServer<{ port: number; pacedPort: number }>([process.execPath, UPSTREAM], `${folder}/upstream.log`);
  const slow = await listen(() => {});
  const garbage = await listen((_request, response) => response.end("garbage"));
  const [api, admin, grpc, dead] = await freePorts(4);
  const ports = {
    none: 0,
    fast: upstream.ready.port,
    paced: upstream.ready.pacedPort,
    dead: dead!,
    slow: slow.port,
    garbage: garbage.port,
  };
  mkdirSync(`${folder}/data`);
  writeFileSync(`${folder}/signalbox.yaml`, configText(ports));
  const listeners = ["--port", String(api), "--admin-port", String(admin), "--grpc-port", String(grpc)];
  const command = [LAUNCHER, "serve", "--config", `${folder}/signalbox.yaml`, "--data-dir", `${folder}/data`, ...listeners];
  const gateway = spawnServer(command, `${folder}/gateway.log`, { SIGNALBOX_LOG_LEVEL: "warn", NO_COLOR: "1" }, folder);
  try {
    await waitFor(gateway, `http://127.0.0.1:${admin}/readyz`, (status) => status === 200);
    for (const load of LOADS) await compare(load, api!);
    const metrics = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
    for (const line of metrics.split("\n")) if (line.startsWith("signalbox_shadow_copies_total{")) say(line);
  } finally {
    await gateway.stop();
    await upstream.server.stop();
    for (const { server } of [slow, garbage]) {
      server.closeAllConnections();
      server.close();
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

/** All arms in turns, so that a slow minute of the machine hits each of them; medians over the rounds. */
async function compare(load: (typeof LOADS)[number], port: number): Promise<void> {
  const reports = new Map<Arm, LoadReport[]>(ARMS.map((arm) => [arm, []]));
  for (let round = 1; round <= ROUNDS; round++) {
    for (const arm of ARMS) reports.get(arm)!.push(await run(load, arm, port));
  }
  const plain = { median: shown(reports.get("none")!, medianOf), quietest: shown(reports.get("none")!, (values) => Math.min(...values)) };
  for (const arm of ARMS) {
    const of = reports.get(arm)!;
    const median = shown(of, medianOf);
    const quietest = shown(of, (values) => Math.min(...values));
    const errors = of.reduce((sum, each) => sum + each.errors, 0);
    const ok = of.reduce((sum, each) => sum + each.ok, 0);
    const kinds = errors === 0 ? "" : ` ${JSON.stringify(of.map(({ errorsByKind }) => errorsByKind))}`;
    const figures = `median round ${textOf(median, plain.median)}, quietest ${textOf(quietest, plain.quietest)}`;
    say(`${load.name.padEnd(5)} copies to ${arm.padEnd(8)} ${figures}; ${ok} answers, ${errors} failures${kinds}`);
  }
}

interface Shown {
  readonly p50: number;
  readonly p95: number;
}

/** Percentiles over the rounds. Another program's load only ever adds: on a busy machine the quietest round says most. */
function shown(reports: readonly LoadReport[], pick: (values: readonly number[]) => number): Shown {
  return { p50: pick(reports.map(({ latency }) => latency.p50)), p95: pick(reports.map(({ latency }) => latency.p95)) };
}

function textOf({ p50, p95 }: Shown, plain: Shown): string {
  return `p50 ${p50.toFixed(2)} ms (x${(p50 / plain.p50).toFixed(3)}) p95 ${p95.toFixed(2)} ms (x${(p95 / plain.p95).toFixed(3)})`;
}

function run(load: (typeof LOADS)[number], arm: Arm, port: number): Promise<LoadReport> {
  return runLoadInChild(
    {
      host: "127.0.0.1",
      port,
      path: "/v1/chat/completions",
      headers: {},
      body: chatBody({ model: `${load.name}-${arm}`, stream: load.stream, promptTokens: PROMPT_TOKENS, maxTokens: load.tokens }),
      stream: load.stream,
      pace: { kind: "open", rps: load.rps },
      warmupMs: WARMUP_MS,
      durationMs: DURATION_MS,
    },
    [],
    () => {},
  );
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
