import type { Command } from "commander";
import type { VerbRunner } from "../context.ts";
import { textCell, type Fields } from "../format.ts";
import { collectPairs, parseDuration, parsePort, parseWhole } from "../options.ts";

/** Adds `sim serve|fault|clear`. */
export function addSimVerbs(program: Command, runner: VerbRunner): void {
  const sim = program.command("sim").description("simulated providers and their faults");
  const serve = sim
    .command("serve")
    .description("run the simulated providers alone")
    .option("--port <port>", "first port; each backend takes the next", parsePort)
    .option("--seed <number>", "seed of answers and delays", parseWhole);
  runner.run(serve, ({ actions, options }, command) => {
    const given = command.opts<{ port?: number; seed?: number }>();
    return actions.simServe({ ...options, port: given.port, seed: given.seed });
  });

  const fault = sim
    .command("fault <backend> <kind>")
    .description("let a simulated backend (or * for all) misbehave; `signalbox dev` must run")
    .option("--for <duration>", "how long (default: until cleared)", parseDuration)
    .option("--set <name=value>", "a detail of the fault such as p=0.3 or after_tokens=10; may be repeated", collectPairs, {});
  runner.run(fault, async ({ admin, print }, command) => {
    const given = command.opts<{ for?: number; set: Readonly<Record<string, string>> }>();
    const [backend = "", kind = ""] = command.args;
    const forMs: Fields = given.for === undefined ? {} : { for_ms: given.for };
    const answer = await admin().call("POST", "/api/sim/faults", { ...typed(given.set), backend, kind, ...forMs });
    const lasts = given.for === undefined ? "until `signalbox sim clear`" : `for ${given.for / 1000} s`;
    await print(answer, () => `${textCell(backend)}: ${textCell(kind)} ${lasts}\n`);
  });

  runner.run(sim.command("clear").description("end all faults"), async ({ admin, print }) => {
    const answer = await admin().call("DELETE", "/api/sim/faults");
    await print(answer, () => "no faults\n");
  });
}

/** `p=0.3` is a number and `everywhere=true` a flag to the simulator. */
function typed(pairs: Readonly<Record<string, string>>): Fields {
  return Object.fromEntries(
    Object.entries(pairs).map(([name, value]) => {
      if (value === "true" || value === "false") return [name, value === "true"];
      return [name, value !== "" && Number.isFinite(Number(value)) ? Number(value) : value];
    }),
  );
}
