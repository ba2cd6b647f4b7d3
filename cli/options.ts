import { InvalidArgumentError, Option, type Command } from "commander";
import { ADMIN_PORT, DATA_DIR, loadConfigFile } from "#libs/config/index.ts";
import type { CommonOptions, PortOptions } from "./actions.ts";
import type { CliIo } from "./io.ts";

/** Options of every verb with what follows from them. */
export interface ClientOptions extends CommonOptions {
  /** Base URL of the admin port, without a trailing slash. */
  readonly adminUrl: string;
}

/** Adds the options every verb takes. They stand on the program, so they may come before or after the verb. */
export function addCommonOptions(program: Command): void {
  program
    .option("--config <file>", "configuration file (environment: SIGNALBOX_CONFIG)")
    .option("--admin <url>", "admin address of the running Signalbox (environment: SIGNALBOX_ADMIN)")
    .option("--data-dir <dir>", `folder of ledger, outbox and admin token (default: ${DATA_DIR})`)
    .addOption(new Option("-o, --output <form>", "how to print the result").choices(["table", "json"]).default("table"));
}

/** Reads the common options of a verb, with the environment behind them. */
export function commonOptions(command: Command, io: CliIo): ClientOptions {
  const given = command.optsWithGlobals<{ config?: string; admin?: string; dataDir?: string; output: "table" | "json" }>();
  const configFile = given.config ?? (io.env["SIGNALBOX_CONFIG"] || undefined);
  const admin = given.admin ?? (io.env["SIGNALBOX_ADMIN"] || undefined) ?? adminUrlOf(configFile);
  return {
    configFile,
    dataDir: given.dataDir ?? DATA_DIR,
    logLevel: io.env["SIGNALBOX_LOG_LEVEL"] || "info",
    output: given.output,
    adminUrl: withScheme(admin).replace(/\/+$/, ""),
  };
}

function withScheme(address: string): string {
  return address.includes("://") ? address : `http://${address}`;
}

/** The admin address a configuration file names; the default one where it does not load, which `config validate` says better. */
function adminUrlOf(configFile: string | undefined): string {
  const loaded = configFile === undefined ? undefined : loadConfigFile(configFile);
  return loaded?.config ? urlOf(loaded.config.server.admin.listen) : urlOf({ host: "127.0.0.1", port: ADMIN_PORT });
}

/** How this machine reaches a listener: one on every interface is reached on loopback. */
export function urlOf(listen: { readonly host: string; readonly port: number }): string {
  const host = listen.host === "0.0.0.0" || listen.host === "::" ? "127.0.0.1" : listen.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${listen.port}`;
}

/** A port of the command line. */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_535) throw new InvalidArgumentError("write a port from 0 to 65535.");
  return port;
}

/** A whole number of at least 0. */
export function parseWhole(text: string): number {
  const value = Number(text);
  if (!/^\d{1,12}$/.test(text)) throw new InvalidArgumentError("write a whole number.");
  return value;
}

/** A number greater than 0. */
export function parsePositive(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new InvalidArgumentError("write a number greater than 0.");
  return value;
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `30s` in milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text);
  if (!match) throw new InvalidArgumentError("write a duration such as 30s or 5m.");
  return Math.round(Number(match[1]) * (DURATION_UNITS[match[2] ?? ""] ?? 0));
}

/** `2026-11-01`, an ISO time, or how long ago (`24h`), as ISO text. */
export function parseMoment(text: string, nowMs: number): string {
  const ago = /^\d+(?:\.\d+)?(?:ms|s|m|h|d)$/.test(text);
  const time = ago ? nowMs - parseDuration(text) : /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time))
    throw new InvalidArgumentError("write a date such as 2026-11-01, a time such as 2026-11-01T09:00:00Z, or an age such as 24h.");
  return new Date(time).toISOString();
}

/** A comma-separated list. */
export function parseList(text: string): readonly string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Collects `name=value` options into an object. */
export function collectPairs(text: string, previous: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const split = text.indexOf("=");
  if (split < 1) throw new InvalidArgumentError("write name=value.");
  return { ...previous, [text.slice(0, split)]: text.slice(split + 1) };
}

/** Adds the port options of `dev` and `serve`. */
export function addPortOptions(command: Command): Command {
  return command
    .option("--port <port>", "port of the API", parsePort)
    .option("--admin-port <port>", "port of the admin surface", parsePort)
    .option("--grpc-port <port>", "port of gRPC and Connect", parsePort)
    .option("--mesh-port <port>", "port between services", parsePort);
}

/** Reads them. */
export function portOptions(given: Partial<PortOptions>): PortOptions {
  return { port: given.port, adminPort: given.adminPort, grpcPort: given.grpcPort, meshPort: given.meshPort };
}
