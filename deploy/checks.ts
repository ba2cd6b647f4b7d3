import { lookup } from "node:dns/promises";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { CheckOptions, CheckResult } from "#cli/index.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { openNatsBus } from "#libs/bus/index.ts";
import { formatProblem, isLoopback, loadConfigFile, type Config, type Secret } from "#libs/config/index.ts";
import { checkRule } from "#libs/rules/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { buildPriceBook } from "#services/cost-ledger/index.ts";

/** How long one check waits for the other side, ms. */
const WAIT_MS = 3_000;

const ok = (name: string, detail: string): CheckResult => ({ name, state: "ok", detail, fix: "" });
const warn = (name: string, detail: string, fix: string): CheckResult => ({ name, state: "warn", detail, fix });
const fail = (name: string, detail: string, fix: string): CheckResult => ({ name, state: "fail", detail, fix });

/** `signalbox check`: named checks with a fix each. Without a file only the machine is looked at. */
export async function runChecks(options: CheckOptions): Promise<readonly CheckResult[]> {
  const node = ok("node", process.version);
  if (options.configFile === undefined)
    return [node, warn("config", "no file named", "Pass --config FILE, or run `signalbox dev`, which needs none.")];
  const loaded = loadConfigFile(options.configFile, { dataDir: options.dataDir, checkRule });
  if (loaded.problems)
    return [node, ...loaded.problems.map((problem) => fail("config", formatProblem(problem), "Mend the line it names."))];
  const { config } = loaded;
  const parts = await Promise.all([...backendChecks(config), natsCheck(config), postgresCheck(config)]);
  return [
    node,
    ok("config", `${options.configFile} is valid (${config.configVersion})`),
    ...loaded.warnings.map((warning) => warn("config", formatProblem(warning), "Leave it out, or mend it.")),
    ...secretChecks(config),
    ...parts.flat(),
    ...exposureChecks(config),
    ...priceChecks(config),
  ];
}

function secretChecks(config: Config): CheckResult[] {
  const results: CheckResult[] = [];
  for (const backend of config.backends.values()) {
    if (!backend.key) continue;
    results.push(revealed(`key:${backend.name}`, backend.key));
  }
  return results;
}

function revealed(name: string, secret: Secret): CheckResult {
  try {
    return secret.reveal() === "" ? fail(name, `${secret.source} is empty`, `Set ${secret.source}.`) : ok(name, `from ${secret.source}`);
  } catch (failure) {
    return fail(name, (failure as Error).message, `Set ${secret.source}.`);
  }
}

function backendChecks(config: Config): Promise<CheckResult[]>[] {
  return [...config.backends.values()].map(async ({ name, url }) => {
    const { hostname, port, protocol } = new URL(url);
    try {
      await lookup(hostname.replace(/^\[|\]$/g, ""));
    } catch {
      return [fail(`dns:${name}`, `${hostname} has no address`, `Check backends.${name}.url, or this machine's resolver.`)];
    }
    const secure = protocol === "https:";
    const failure = await reach(hostname, Number(port) || (secure ? 443 : 80), secure);
    if (failure === undefined) return [ok(`reach:${name}`, `${url} answers${secure ? " over TLS" : ""}`)];
    return [
      fail(
        `reach:${name}`,
        `${url}: ${failure}`,
        secure ? "Check the address, the firewall and the certificate." : "Is the server running, and is the port right?",
      ),
    ];
  });
}

/** Opens and closes a connection; what went wrong, or undefined. */
function reach(host: string, port: number, secure: boolean): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket: Socket = secure ? connectTls({ host, port, servername: host }) : connect({ host, port });
    const finish = (result: string | undefined): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(WAIT_MS, () => finish(`no answer within ${WAIT_MS / 1000} s`));
    socket.once(secure ? "secureConnect" : "connect", () => finish(undefined));
    socket.once("error", (error) => finish(error.message));
  });
}

async function natsCheck(config: Config): Promise<CheckResult[]> {
  if (!config.mesh.nats) return [];
  const { url, creds } = config.mesh.nats;
  const secret = revealed("nats", url);
  if (secret.state === "fail") return [secret];
  const bus = await openNatsBus({
    url: url.reveal(),
    ...(creds ? { creds: creds.reveal() } : {}),
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    name: "signalbox-check",
  });
  const connected = await new Promise<boolean>((resolve) => {
    if (bus.connected) resolve(true);
    bus.onConnection(resolve);
    systemClock.after(WAIT_MS, () => resolve(false));
  });
  const fix = "Start nats-server with JetStream (-js), 2.9 or newer, or mend mesh.nats.url.";
  if (!connected) {
    await bus.close();
    return [fail("nats", `no connection to ${url.source} within ${WAIT_MS / 1000} s`, fix)];
  }
  const durable = await bus.publishDurable("signalbox.entry.recorded.v1", new Uint8Array(), "signalbox-check").then(
    () => true,
    () => false,
  );
  await bus.close();
  return [durable ? ok("nats", "connected, JetStream takes events") : fail("nats", "connected, but JetStream does not take events", fix)];
}

async function postgresCheck(config: Config): Promise<CheckResult[]> {
  let store: string;
  try {
    store = config.ledger.store.reveal();
  } catch (failure) {
    return [fail("ledger", (failure as Error).message, "Set ledger.store, or the variable it names.")];
  }
  if (!/^postgres(ql)?:/.test(store)) return [ok("ledger", store)];
  const { Client } = (await import("pg")).default;
  const client = new Client({ connectionString: store, connectionTimeoutMillis: WAIT_MS });
  try {
    await client.connect();
    const { rows } = await client.query<{ version: string }>("select current_setting('server_version') as version");
    return [ok("ledger", `PostgreSQL ${rows[0]?.version}`)];
  } catch (failure) {
    return [
      fail(
        "ledger",
        `PostgreSQL: ${(failure as Error).message}`,
        "Is it running, and do user, password and database in ledger.store exist?",
      ),
    ];
  } finally {
    await client.end().catch(() => {});
  }
}

function exposureChecks({ mesh }: Config): CheckResult[] {
  if (isLoopback(mesh.listen.host) || mesh.tls) return [];
  const detail = `mesh.listen is ${mesh.listen.host}:${mesh.listen.port} in plain text: whoever reaches it can read prompts and make keys`;
  return [warn("mesh-tls", detail, "Give mesh.tls (ca, cert, key), or keep the port inside a network policy.")];
}

function priceChecks(config: Config): CheckResult[] {
  const { book } = buildPriceBook(config, []);
  const known = new Map(book.lines.map((line) => [line.backend, line]));
  return [...config.backends.keys()].map((name) => {
    const line = known.get(name);
    const fix = `Add prices.overrides for ${name}, or backends.${name}.price.`;
    if (!line) return (config.prices.onUnknown === "reject" ? fail : warn)(`price:${name}`, "no price is known", fix);
    return line.grade === "fuzzy"
      ? warn(`price:${name}`, `guessed from ${line.source}`, fix)
      : ok(`price:${name}`, `${line.grade}, ${line.source}`);
  });
}
