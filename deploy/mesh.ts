import { mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { devMeshConfig } from "./local/dev-mesh.ts";
import { startMesh } from "./local/mesh.ts";
import type { ProcessPorts } from "./local/mesh-layout.ts";
import { keepNats, keepPostgres } from "./local/servers.ts";

// `npm run mesh`: the whole mesh on this machine as separate processes, with a real nats-server and a real PostgreSQL.

const { values } = parseArgs({ options: { config: { type: "string" }, "data-dir": { type: "string", default: ".signalbox/mesh" } } });
const dir = resolve(values["data-dir"]);
mkdirSync(dir, { recursive: true });

/** The clients' ports are the product's own; the others count up from 4300. */
function portsFrom(first: number): (name: string) => ProcessPorts {
  let next = first;
  return (name) => {
    const base = (next += 10);
    return {
      api: name === "ingress" ? 4100 : base,
      admin: name === "console" ? 4101 : base + 1,
      grpc: name === "ingress" ? 4102 : base + 2,
      mesh: base + 3,
    };
  };
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

say("  starting nats-server and PostgreSQL");
const nats = await keepNats(join(dir, "nats"));
const postgres = await keepPostgres(join(dir, "postgres"));
const simulated = values.config === undefined ? await devMeshConfig() : undefined;
say("  starting the services");
const mesh = await startMesh({
  config: simulated?.config ?? readFileSync(values.config!, "utf8"),
  dir,
  natsUrl: nats.url,
  databaseUrl: postgres.url,
  ports: portsFrom(4300),
});
for (const { name, role, ports } of mesh.processes)
  say(
    `  ${name.padEnd(20)} ${role.padEnd(28)} process ${mesh.child(name).pid()}  admin 127.0.0.1:${ports.admin}  mesh 127.0.0.1:${ports.mesh}`,
  );
say(`\n  API      ${mesh.url("ingress", "api")}/v1`);
say(`  Admin    ${mesh.url("console", "admin")}    token in ${join(mesh.dataDir("console"), "admin.token")}`);
say(`  CLI      ./bin/signalbox backends ls --data-dir ${mesh.dataDir("console")}`);
say(`  Logs     ${dir}/*.log    a dead service comes back after 1 s; Ctrl-C ends everything`);

let ending = false;
async function end(): Promise<void> {
  if (ending) return;
  ending = true;
  say("\n  draining");
  await mesh.stop();
  await simulated?.stop();
  await postgres.stop();
  await nats.stop();
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void end().then(() => process.exit(0)));
