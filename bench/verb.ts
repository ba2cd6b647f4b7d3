import { SingleBar } from "cli-progress";
import { chatBody, runLoad, type LoadOptions, type LoadReport, type Pace, type Percentiles } from "./load/index.ts";

/** What `signalbox bench` is asked for. */
export interface BenchOptions {
  /** Base URL of the API, without `/v1`. */
  readonly apiUrl: string;
  /** Virtual key; undefined in open mode. */
  readonly key: string | undefined;
  readonly model: string;
  /** Open loop at this rate; undefined = closed loop at `concurrency`. */
  readonly rps?: number;
  /** Requests kept under way in a closed loop. Default 1. */
  readonly concurrency?: number;
  readonly durationMs: number;
  /** Leading part that is sent but not counted. */
  readonly warmupMs: number;
  readonly stream: boolean;
  /** Length of each prompt, tokens. */
  readonly inputTokens: number;
  /** Output limit, tokens. */
  readonly outputTokens: number;
  /** Whether a progress bar may be drawn on stderr. */
  readonly progress: boolean;
  readonly output: "table" | "json";
}

/** What a bench measured, with what was asked. */
export interface BenchReport extends LoadReport {
  readonly url: string;
  readonly model: string;
  readonly stream: boolean;
  readonly pace: Pace;
}

/** Exit codes of the command line. */
const EXIT = { ok: 0, failed: 1, unreachable: 3 } as const;

/** Runs the load and resolves with the report. `onProgress` gets ms so far. Throws a TypeError when the URL is none. */
export async function benchReport(options: BenchOptions, onProgress?: (elapsedMs: number) => void): Promise<BenchReport> {
  const load = loadOptions(options);
  const report = await runLoad(load, onProgress === undefined ? {} : { progress: onProgress });
  return { url: options.apiUrl, model: options.model, stream: options.stream, pace: load.pace, ...report };
}

/** The verb: runs, draws its progress on a terminal, prints the report on stdout; resolves with the exit code. */
export async function runBench(options: BenchOptions): Promise<number> {
  const totalMs = options.warmupMs + options.durationMs;
  const bar = options.progress
    ? new SingleBar({ format: "bench [{bar}] {percentage}% | {left} s left", stream: process.stderr, hideCursor: true })
    : undefined;
  bar?.start(totalMs, 0, { left: Math.ceil(totalMs / 1000) });
  const report = await benchReport(options, (elapsedMs) => {
    bar?.update(Math.min(elapsedMs, totalMs), { left: Math.max(0, Math.ceil((totalMs - elapsedMs) / 1000)) });
  });
  bar?.update(totalMs, { left: 0 });
  bar?.stop();
  process.stdout.write(options.output === "json" ? `${JSON.stringify(report)}\n` : benchTable(report));
  return exitCode(report);
}

function loadOptions(options: BenchOptions): LoadOptions {
  const url = new URL(options.apiUrl);
  const tls = url.protocol === "https:";
  const shape = { model: options.model, stream: options.stream, promptTokens: options.inputTokens, maxTokens: options.outputTokens };
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (tls ? 443 : 80) : Number(url.port),
    tls,
    path: `${url.pathname.replace(/\/+$/, "")}/v1/chat/completions`,
    headers: options.key === undefined ? {} : { authorization: `Bearer ${options.key}` },
    body: chatBody(shape),
    stream: options.stream,
    pace: options.rps === undefined ? { kind: "closed", concurrency: options.concurrency ?? 1 } : { kind: "open", rps: options.rps },
    warmupMs: options.warmupMs,
    durationMs: options.durationMs,
  };
}

/** 3 when nobody ever answered, 1 when anything failed. */
function exitCode(report: BenchReport): number {
  const lost = Object.entries(report.errorsByKind).reduce((sum, [kind, count]) => sum + (kind.startsWith("connection:") ? count : 0), 0);
  if (report.ok === 0 && report.errors > 0 && lost === report.errors) return EXIT.unreachable;
  return report.errors === 0 && report.ok > 0 ? EXIT.ok : EXIT.failed;
}

/** The report for people. */
export function benchTable(report: BenchReport): string {
  const pace =
    report.pace.kind === "open" ? `${report.pace.rps} requests/s, open loop` : `${report.pace.concurrency} at a time, closed loop`;
  const rows: [name: string, times: Percentiles][] = [
    ["end to end", report.latency],
    ["TTFT", report.ttft],
  ];
  if (report.stream) rows.push(["TPOT", report.tpot]);
  const lines = [
    `${report.url}  model ${report.model}  ${report.stream ? "streamed" : "whole answers"}  ${pace}  ${(report.durationMs / 1000).toFixed(1)} s`,
    `requests ${report.requests}   ok ${report.ok}   errors ${report.errors}   ${report.rps.toFixed(1)}/s` +
      (report.stream ? `   ${report.eventsPerSecond.toFixed(0)} events/s` : "") +
      (report.backlog > 0 ? `   ${report.backlog} never begun: the server is slower than the rate` : ""),
    "",
    ["ms", "p50", "p90", "p95", "p99", "p99.9", "max"].map((cell, index) => (index === 0 ? cell.padEnd(12) : cell.padStart(10))).join(""),
    ...rows.map(([name, times]) => {
      const cells = [times.p50, times.p90, times.p95, times.p99, times.p999, times.max];
      return name.padEnd(12) + cells.map((ms) => formatMs(ms).padStart(10)).join("");
    }),
    ...Object.entries(report.errorsByKind).map(([kind, count]) => `error ${String(count).padStart(6)}  ${kind}`),
  ];
  return `${lines.join("\n")}\n`;
}

/** Three significant figures. */
export function formatMs(ms: number): string {
  return ms >= 100 ? ms.toFixed(0) : ms >= 10 ? ms.toFixed(1) : ms.toFixed(2);
}
