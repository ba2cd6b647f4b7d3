import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts } from "#deploy/local/ports.ts";
import { spawnJsonServer, spawnServer, waitFor } from "../harness/spawn.ts";
import { chatBody, type LoadReport, runLoadInChild } from "../load/index.ts";
import { median } from "../results.ts";

/**
 * What shadow copies cost the clients: the same load on a model without experiment and on models whose every request is copied to an
 * arm that is dead, hangs, or answers garbage. A second model without copies shows what the machine alone makes of a ratio.
 */

const LAUNCHER = fileURLToPath(new URL("../../bin/signalbox", import.meta.url));
const UPSTREAM = fileURLToPath(new URL("../upstream.ts", import.meta.url));

/** Models by the arm their requests are copied to. */
const ARMS = ["none", "again", "dead", "slow", "garbage"] as const;
type Arm = (typeof ARMS)[number];

const isPlain = (arm: Arm): boolean => arm === "none" || arm === "again";

/** Loads: whole answers from an upstream that answers at once (the gateway's own time shows), and streams of 8 tokens at 25 tokens/s (what clients see). */
const LOADS = [
  { name: "json", stream: false, tokens: 16, rps: 50, paced: false, rounds: 30, durationMs: 4_000 },
  { name: "sse", stream: true, tokens: 8, rps: 15, paced: true, rounds: 8, durationMs: 2_000 },
] as const;

/** Many short rounds in turns: a slow moment of the machine then hits every arm alike. */
const WARMUP_MS = 500;

const PROMPT_TOKENS = 250;

function listen(answer: Parameters<typeof createServer>[1]): Promise<{ server: Server; port: number }> {
  const server = createServer(answer!);
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve({ server, port: (server.address() as AddressInfo).port })));
}

function configText(ports: Readonly<Record<"fast" | "paced" | "dead" | "slow" | "garbage", number>>): string {
  const backend = (port: number): string =>
    `{ provider: openai-compatible, url: "http://127.0.0.1:${port}/v1", model: m, context: 128k, concurrency: { mode: fixed, max: 4096 }, price: { per_million: { input: $0.25, output: $2.00 } } }`;
  const lines = ["version: 1", "auth: { mode: open }", "backends:"];
  for (const name of ["fast", "paced", "dead", "slow", "garbage"] as const) lines.push(`  ${name}: ${backend(ports[name])}`);
  lines.push("models:");
  const models = LOADS.flatMap(({ name, paced }) =>
    ARMS.map((arm) => ({ model: `${name}-${arm}`, arm, primary: paced ? "paced" : "fast" })),
  );
  for (const { model, arm, primary } of models)
    lines.push(`  ${model}: { candidates: [${isPlain(arm) ? primary : `${primary}, ${arm}`}] }`);
  lines.push("experiments:");
  for (const { model, arm, primary } of models.filter(({ arm: each }) => !isPlain(each))) {
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

/** All arms in turns, so that a slow minute of the machine hits each of them; each round is held against the one without copies beside it. */
async function compare(load: (typeof LOADS)[number], port: number): Promise<void> {
  const reports = new Map<Arm, LoadReport[]>(ARMS.map((arm) => [arm, []]));
  for (let round = 1; round <= load.rounds; round++) {
    for (const arm of ARMS) reports.get(arm)!.push(await run(load, arm, port));
  }
  const plain = reports.get("none")!;
  for (const arm of ARMS) {
    const of = reports.get(arm)!;
    const errors = of.reduce((sum, each) => sum + each.errors, 0);
    const ok = of.reduce((sum, each) => sum + each.ok, 0);
    const kinds = errors === 0 ? "" : ` ${JSON.stringify(of.map(({ errorsByKind }) => errorsByKind))}`;
    const figures = (["p50", "p95"] as const).map((key) => {
      const ratios = of.map(({ latency }, round) => latency[key] / plain[round]!.latency[key]);
      return `${key} ${median(of.map(({ latency }) => latency[key])).toFixed(2)} ms${arm === "none" ? "" : ` (${ratioText(ratios)})`}`;
    });
    say(`${load.name.padEnd(5)} ${titleOf(arm).padEnd(18)} ${figures.join(", ")}; ${ok} answers, ${errors} failures${kinds}`);
  }
}

function titleOf(arm: Arm): string {
  if (arm === "none") return "no copies";
  return arm === "again" ? "no copies, again" : `copies to ${arm}`;
}

/** The median of the rounds' ratios with its 95 % interval by order statistics (Conover, Practical Nonparametric Statistics, 3.2). */
function ratioText(ratios: readonly number[]): string {
  const sorted = ratios.toSorted((a, b) => a - b);
  const reach = 0.98 * Math.sqrt(sorted.length);
  const low = sorted[Math.max(0, Math.floor(sorted.length / 2 - reach))]!;
  const high = sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length / 2 + reach))]!;
  return `x${median(ratios).toFixed(3)}, 95 % within ${low.toFixed(3)} to ${high.toFixed(3)}`;
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
      durationMs: load.durationMs,
    },
    [],
    () => {},
  );
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

await main();
