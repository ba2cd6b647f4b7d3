import type { CliActions } from "#cli/index.ts";

/** What the command line starts, loaded when it is asked for: `signalbox costs` needs none of the services. */
const load = (): Promise<{ readonly actions: CliActions }> => import("./actions.ts");
const actions: CliActions = {
  dev: async (options) => (await load()).actions.dev(options),
  serve: async (options) => (await load()).actions.serve(options),
  simServe: async (options) => (await load()).actions.simServe(options),
  bench: async (options) => (await load()).actions.bench(options),
  check: async (options) => (await load()).actions.check(options),
  replay: async (options, progress) => (await load()).actions.replay(options, progress),
};

const { runCli } = await import("#cli/index.ts");
process.exitCode = await runCli(process.argv.slice(2), actions);
