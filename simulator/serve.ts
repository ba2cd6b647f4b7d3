import type { Clock, Random } from "#libs/clock/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { startControl } from "./control.ts";
import { type DevBackend, devBackends, devProfiles } from "./dev.ts";
import type { SimBackendProfile } from "./profile.ts";
import { createSimulator, type Simulator } from "./simulator.ts";

/** First port of `signalbox sim serve`: the control listener; backends follow. */
const FIRST_PORT = 4200;

/** What `signalbox sim serve` takes. */
export interface ServeOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Where the table and the configuration go, line by line. */
  readonly print: (line: string) => void;
  /** Backends; default: those of `signalbox dev`. */
  readonly profiles?: readonly SimBackendProfile[];
  /** Control port; backends get the ones behind it. 0 = any free ones. Default 4200. */
  readonly firstPort?: number;
  readonly timeScale?: number;
  /** No waiting at all, for load tests: replaces every backend's speed. */
  readonly fast?: boolean;
}

/** A running `sim serve`. */
export interface ServedSimulator {
  readonly simulator: Simulator;
  readonly controlUrl: string;
  readonly backends: readonly DevBackend[];
  stop(): Promise<void>;
}

/** Starts the simulator on fixed ports with a control listener, and prints how to use it. */
export async function serveSimulator(options: ServeOptions): Promise<ServedSimulator> {
  const firstPort = options.firstPort ?? FIRST_PORT;
  const profiles = (options.profiles ?? devProfiles()).map((profile, index): SimBackendProfile => {
    const placed = { ...profile, port: firstPort === 0 ? 0 : firstPort + 1 + index };
    return options.fast ? { ...placed, speed: { kind: "fast" } } : placed;
  });
  const { clock, random, logger } = options;
  const simulator = createSimulator({ clock, random, logger, profiles, timeScale: options.timeScale ?? 1 });
  const addresses = await simulator.start();
  const control = await startControl(simulator, firstPort).catch(async (error: unknown) => {
    await simulator.stop();
    throw error;
  });
  const backends = devBackends(addresses, profiles);
  const controlUrl = `http://127.0.0.1:${control.port}`;
  for (const line of describe(backends, controlUrl)) options.print(line);
  return {
    simulator,
    controlUrl,
    backends,
    async stop() {
      await control.stop();
      await simulator.stop();
    },
  };
}

function describe(backends: readonly DevBackend[], controlUrl: string): string[] {
  const rows = [["BACKEND", "PROVIDER", "MODEL", "URL"], ...backends.map(({ name, provider, model, url }) => [name, provider, model, url])];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)) + 2);
  const table = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(""));
  return [
    ...table,
    "",
    `Control  ${controlUrl}   GET /invoice · GET|POST|DELETE /faults`,
    `         curl -d '{"backend":"${backends[0]?.name ?? "*"}","kind":"error","for_ms":30000}' ${controlUrl}/faults`,
    "",
    "# signalbox.yaml",
    ...configLines(backends),
  ];
}

/** The backends as a configuration file. */
export function configLines(backends: readonly DevBackend[]): string[] {
  const lines = ["version: 1", "backends:"];
  for (const backend of backends) {
    lines.push(`  ${backend.name}:`, `    provider: ${backend.provider}`, `    url: ${backend.url}`, `    model: ${backend.model}`);
    lines.push(
      `    context: ${backend.context}`,
      `    max_output: ${backend.max_output}`,
      `    capabilities: [${backend.capabilities.join(", ")}]`,
    );
    if (backend.metrics) lines.push(`    metrics: { url: ${backend.metrics.url} }`);
    if (backend.limits) lines.push(`    limits: ${flow(backend.limits)}`);
    if (backend.price) lines.push(`    price: ${flow(backend.price)}`);
    if (Object.keys(backend.labels).length > 0) lines.push(`    labels: ${flow(backend.labels)}`);
  }
  return [...lines, "models:", `  chat: { candidates: [${backends.map(({ name }) => name).join(", ")}] }`];
}

function flow(value: object): string {
  const fields = Object.entries(value).map(
    ([name, field]) => `${name}: ${typeof field === "object" && field !== null ? flow(field as object) : String(field)}`,
  );
  return `{ ${fields.join(", ")} }`;
}
