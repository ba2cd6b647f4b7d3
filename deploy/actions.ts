import type { CliActions, DevOptions, ServeOptions, SimServeOptions } from "#cli/index.ts";
import { runBench } from "#bench/index.ts";
import { SeededRandom } from "#libs/clock/fake.ts";
import { systemClock, systemRandom } from "#libs/clock/index.ts";
import { withPorts } from "#libs/config/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { createSimulator, devBackends, devProfiles, serveSimulator } from "#simulator/index.ts";
import { bannerText } from "./banner.ts";
import { devConfig } from "./dev-config.ts";
import { runChecks } from "./checks.ts";
import { releaseStartMemory } from "./memory.ts";
import { startProcess, type ProcessOptions, type RunningProcess } from "./process.ts";
import { fixedConfig, openConfigFile } from "./reload.ts";
import { replayRecords } from "./replay.ts";
import { parseRole, ROLES, type RoleChoice } from "./roles.ts";
import { runUntilSignalled, untilSignalled } from "./signals.ts";

/** Exit code for what the caller must change: arguments or configuration. */
const EXIT_USAGE = 2;

/** What the command line starts. */
export const actions: CliActions = {
  dev,
  serve,
  simServe,
  bench: (options) => runBench(options),
  check: (options) => runChecks(options),
  replay: (options, progress) => replayRecords(options, progress),
};

/** `signalbox dev`: everything in one process, over simulated providers unless a file names others. */
async function dev(options: DevOptions): Promise<number> {
  if (options.configFile !== undefined) return serve({ ...options, roles: [] });
  const startedMs = systemClock.monotonicMs();
  const simulator = createSimulator({ clock: systemClock, random: systemRandom, logger: silentLogger, profiles: devProfiles() });
  const simulated = devBackends(await simulator.start());
  const config = fixedConfig(withPorts(devConfig({ simulated, env: process.env }, options.dataDir), options));
  const started = await start({
    roles: undefined,
    config,
    dataDir: options.dataDir,
    logLevel: options.logLevel,
    env: process.env,
    simulator,
    dev: true,
  });
  if (typeof started === "number") {
    await simulator.stop();
    return started;
  }
  print(started, startedMs, new Set(simulated.map(({ name }) => name)));
  const code = await runUntilSignalled(started, config);
  await simulator.stop();
  return code;
}

/** `signalbox serve`: one process with every role, or with those named. */
async function serve(options: ServeOptions): Promise<number> {
  const startedMs = systemClock.monotonicMs();
  const roles: RoleChoice[] = [];
  for (const text of options.roles) {
    const role = parseRole(text);
    if (!role)
      return refuse(
        `--role ${text}: there is no such role. Known: ${ROLES.join(", ")}, provider-adapters:openai, provider-adapters:anthropic.`,
      );
    roles.push(role);
  }
  if (options.configFile === undefined)
    return refuse("serve needs a configuration: --config FILE (or SIGNALBOX_CONFIG). `signalbox dev` runs without one.");
  const opened = openConfigFile(options.configFile, options.dataDir, options);
  if (opened.problems) return refuse(opened.problems.join("\n"));
  for (const warning of opened.warnings) process.stderr.write(`warning: ${warning}\n`);
  const started = await start({
    roles: roles.length === 0 ? undefined : roles,
    config: opened.config,
    dataDir: options.dataDir,
    logLevel: options.logLevel,
    env: process.env,
  });
  if (typeof started === "number") return started;
  print(started, startedMs, new Set());
  return runUntilSignalled(started, opened.config);
}

/** `signalbox sim serve`: the simulated providers alone, on fixed ports. */
async function simServe(options: SimServeOptions): Promise<number> {
  const random = options.seed === undefined ? systemRandom : new SeededRandom(options.seed);
  const print = (line: string): void => void process.stdout.write(`${line}\n`);
  const served = await serveSimulator({
    clock: systemClock,
    random,
    logger: silentLogger,
    print,
    ...(options.port === undefined ? {} : { firstPort: options.port }),
  });
  await untilSignalled();
  await served.stop();
  return 0;
}

async function start(options: ProcessOptions): Promise<RunningProcess | number> {
  try {
    const running = await startProcess(options);
    releaseStartMemory();
    return running;
  } catch (failure) {
    if (!(failure instanceof SignalboxError)) throw failure;
    return refuse(failure.message);
  }
}

function refuse(message: string): number {
  process.stderr.write(`${message}\n`);
  return EXIT_USAGE;
}

function print(running: RunningProcess, startedMs: number, simulated: ReadonlySet<string>): void {
  const { current } = running.context.config;
  const facts = {
    roles: running.roles,
    addresses: running.addresses,
    readyMs: systemClock.monotonicMs() - startedMs,
    open: current.auth.mode === "open",
    backends: [...current.backends.keys()].map((name) => ({ name, simulated: simulated.has(name) })),
    color: process.stdout.isTTY && !process.env["NO_COLOR"],
  };
  process.stdout.write(`${bannerText(facts)}\n`);
}
