import type { Command } from "commander";
import type { VerbRunner } from "../context.ts";
import { fieldsOf, listOf, textCell, timeCell, wordsCell } from "../format.ts";
import { parseDuration, parseList } from "../options.ts";
import { table, type Column } from "../table.ts";

const COLUMNS: readonly Column[] = [
  { title: "ID" },
  { title: "KEY" },
  { title: "TENANT" },
  { title: "TEAM" },
  { title: "MODELS" },
  { title: "NAME" },
  { title: "CREATED" },
  { title: "REVOKED" },
];

/** Adds `keys create|ls|rotate|revoke`. */
export function addKeyVerbs(program: Command, runner: VerbRunner): void {
  const keys = program.command("keys").description("virtual keys of tenants");
  const create = keys
    .command("create")
    .description("make a key; it is shown this once")
    .requiredOption("--tenant <tenant>", "who pays")
    .option("--team <team>", "team of the tenant")
    .option("--models <models>", "models it may ask for, separated by commas (default: the tenant's)", parseList)
    .option("--name <name>", "what it is for");
  runner.run(create, async ({ admin, print }, command) => {
    const given = command.opts<{ tenant: string; team?: string; models?: readonly string[]; name?: string }>();
    const made = await admin().call("POST", "/api/keys", fieldsOf(given));
    const { id, key, tenant, team } = made;
    await print(
      { id, key, tenant, team },
      () =>
        `${textCell(key)}\n\n  id ${textCell(id)}, tenant ${textCell(tenant)}, team ${textCell(team)}. Keep the key now: it is not shown again.\n`,
    );
  });

  const list = keys.command("ls").description("list keys, without the keys themselves").option("--tenant <tenant>", "only this tenant's");
  runner.run(list, async ({ admin, print }, command) => {
    const { tenant } = command.opts<{ tenant?: string }>();
    const answer = await admin().call("GET", `/api/keys${tenant === undefined ? "" : `?tenant=${encodeURIComponent(tenant)}`}`);
    await print(answer, () => {
      const rows = listOf(answer, "keys").map((key) => [
        textCell(key["id"]),
        textCell(key["hint"]),
        textCell(key["tenant"]),
        textCell(key["team"]),
        wordsCell(key["models"]),
        textCell(key["name"]),
        timeCell(key["created_at"]),
        timeCell(key["revoked_at"]),
      ]);
      return rows.length === 0 ? "no keys: make one with `signalbox keys create --tenant NAME`\n" : table(COLUMNS, rows);
    });
  });

  const rotate = keys
    .command("rotate <id>")
    .description("give a key a new secret; it is shown this once")
    .option("--grace <time>", "how long the old secret works on, e.g. 24h (default: not at all)", parseDuration, 0);
  runner.run(rotate, async ({ admin, print }, command) => {
    const { grace } = command.opts<{ grace: number }>();
    const made = await admin().call("POST", `/api/keys/${encodeURIComponent(command.args[0] ?? "")}/rotate`, { grace_ms: grace });
    const { id, key, tenant, team } = made;
    const old =
      typeof made["old_until"] === "string"
        ? `the old one works until ${timeCell(made["old_until"])}`
        : "the old one is refused from now on";
    await print(
      { id, key, tenant, team, old_until: made["old_until"] },
      () => `${textCell(key)}\n\n  id ${textCell(id)}; ${old}. Keep the key now: it is not shown again.\n`,
    );
  });

  const revoke = keys.command("revoke <id>").description("refuse a key from now on");
  runner.run(revoke, async ({ admin, print }, command) => {
    const key = await admin().call("DELETE", `/api/keys/${encodeURIComponent(command.args[0] ?? "")}`);
    await print(key, () => `revoked ${textCell(key["id"])} of tenant ${textCell(key["tenant"])}\n`);
  });
}
