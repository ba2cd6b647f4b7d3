import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { findServers } from "./servers.ts";
import { planSetup, type Installers } from "./setup-plan.ts";

const root = mkdtempSync(join(tmpdir(), "signalbox-servers-"));
after(() => rmSync(root, { recursive: true }));

function programs(folder: string, names: readonly string[]): string {
  const path = join(root, folder);
  mkdirSync(path, { recursive: true });
  for (const name of names) {
    writeFileSync(join(path, name), "#!/bin/sh\n");
    chmodSync(join(path, name), 0o755);
  }
  return path;
}

const ALL = ["initdb", "pg_ctl", "postgres"];

describe("finding the servers of this machine", () => {
  it("finds nats-server in a folder that is not on PATH", () => {
    const sbin = programs("sbin", ["nats-server"]);
    const found = findServers({ folders: [join(root, "nowhere"), sbin], postgresRoots: [] });
    assert.deepEqual(found, { natsServer: join(sbin, "nats-server"), postgresBin: undefined });
  });

  it("takes the newest PostgreSQL that is complete", () => {
    const roots = join(root, "pg");
    programs("pg/9/bin", ALL);
    const fifteen = programs("pg/15/bin", ALL);
    programs("pg/17/bin", ["initdb", "pg_ctl"]);
    assert.equal(findServers({ folders: [], postgresRoots: [roots] }).postgresBin, fifteen);
  });

  it("follows a link on PATH to the folder where its companions are", () => {
    const real = programs("opt/pg/bin", ALL);
    const links = programs("links", []);
    symlinkSync(join(real, "initdb"), join(links, "initdb"));
    assert.equal(findServers({ folders: [links], postgresRoots: [] }).postgresBin, real);
  });

  it("does not take a file that cannot be run", () => {
    const folder = join(root, "plain");
    mkdirSync(folder);
    writeFileSync(join(folder, "nats-server"), "", { mode: 0o644 });
    assert.equal(findServers({ folders: [folder], postgresRoots: [] }).natsServer, undefined);
  });
});

describe("planning what setup installs", () => {
  const nothing = { natsServer: undefined, postgresBin: undefined };
  const both = { natsServer: "/usr/sbin/nats-server", postgresBin: "/usr/lib/postgresql/15/bin" };
  const none: Installers = { hasApt: false, hasBrew: false, hasSudo: false, isRoot: false, isInteractive: false };

  it("needs nothing when the servers are there", () => {
    assert.deepEqual(planSetup(both, none), { kind: "nothing" });
  });

  it("updates the package lists first and installs only what is missing", () => {
    const plan = planSetup({ ...both, natsServer: undefined }, { ...none, hasApt: true, isRoot: true });
    assert.ok(plan.kind === "install");
    assert.deepEqual(
      plan.commands.map((command) => command.slice(2).join(" ")),
      ["apt-get update", "apt-get install -y --no-install-recommends nats-server"],
    );
  });

  it("asks sudo for no password when nobody can type one", () => {
    const plan = planSetup(nothing, { ...none, hasApt: true, hasSudo: true });
    assert.ok(plan.kind === "install" && plan.commands.every((command) => command[0] === "sudo" && command[1] === "-n"));
  });

  it("uses Homebrew where there is no apt-get it may use", () => {
    const plan = planSetup(nothing, { ...none, hasApt: true, hasBrew: true });
    assert.ok(plan.kind === "install");
    assert.deepEqual(plan.commands, [["brew", "install", "nats-server", "postgresql@17"]]);
  });

  it("names the one command when it may not install", () => {
    const plan = planSetup(nothing, { ...none, hasApt: true });
    assert.ok(plan.kind === "ask");
    assert.match(plan.command, /apt-get install -y nats-server postgresql/);
  });
});
