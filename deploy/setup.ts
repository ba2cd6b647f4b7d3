import { spawnSync } from "node:child_process";
import { findProgram, findServers, usualPlaces, type ServerPaths } from "./servers.ts";
import { planSetup, type Installers, type SetupCommand } from "./setup-plan.ts";

/** `npm run setup`: brings the servers of the mesh where they are missing. Exit code 1, and the command to run, when it cannot. */
function main(): number {
  const plan = planSetup(findServers(), installers());
  if (plan.kind === "nothing") return report(findServers());
  console.log(`Missing: ${plan.missing.join(" and ")}. The mesh (npm run mesh) and its tests start their own on free ports of 127.0.0.1.`);
  if (plan.kind === "ask") return refuse("They cannot be installed from here", plan.command);
  for (const command of plan.commands) {
    console.log(`> ${command.join(" ")}`);
    if (!run(command)) return refuse("That failed", plan.commands.map((each) => each.join(" ")).join(" && "));
  }
  const found = findServers();
  if (found.natsServer === undefined || found.postgresBin === undefined) {
    return refuse("The packages are installed, but their programs are in no folder that is looked at; put them on PATH", "npm run setup");
  }
  return report(found);
}

function installers(): Installers {
  const { folders } = usualPlaces();
  return {
    hasApt: findProgram("apt-get", folders) !== undefined,
    hasBrew: findProgram("brew", folders) !== undefined,
    hasSudo: findProgram("sudo", folders) !== undefined,
    isRoot: process.getuid?.() === 0,
    isInteractive: process.stdin.isTTY === true,
  };
}

function run([program = "", ...args]: SetupCommand): boolean {
  return spawnSync(program, args, { stdio: "inherit" }).status === 0;
}

function report(found: ServerPaths): number {
  console.log(`nats-server  ${found.natsServer}\nPostgreSQL   ${found.postgresBin}`);
  return 0;
}

function refuse(what: string, command: string): number {
  console.error(`${what}. Run:\n  ${command}`);
  return 1;
}

process.exitCode = main();
