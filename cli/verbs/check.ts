import type { Command } from "commander";
import type { CheckResult } from "../actions.ts";
import type { VerbRunner } from "../context.ts";
import { EXIT } from "../exit.ts";
import { paint, type CliIo, type Style } from "../io.ts";
import { table } from "../table.ts";

const STYLES: Readonly<Record<CheckResult["state"], Style>> = { ok: "green", warn: "yellow", fail: "red" };

/** Adds `check`: named checks with a fix each. Exit code 1 when one fails. */
export function addCheckVerb(program: Command, runner: VerbRunner): void {
  const check = program
    .command("check")
    .description("look at configuration, network, certificates, NATS, PostgreSQL and prices, and say what to mend");
  runner.run(check, async ({ actions, options, io, print }) => {
    const checks = await actions.check(options);
    const failed = checks.some((result) => result.state === "fail");
    await print({ ok: !failed, checks }, () => checksText(checks, io));
    return failed ? EXIT.failed : EXIT.ok;
  });
}

function checksText(checks: readonly CheckResult[], io: CliIo): string {
  const rows = checks.map((result) => {
    const detail = result.fix === "" ? result.detail : `${result.detail}: ${result.fix}`;
    return [paint(io, STYLES[result.state], result.state), result.name, detail];
  });
  const count = (state: CheckResult["state"]): number => checks.filter((result) => result.state === state).length;
  const summary = `${checks.length} checks: ${count("ok")} ok, ${count("warn")} to look at, ${count("fail")} failed\n`;
  return table([{ title: "STATE" }, { title: "CHECK" }, { title: "DETAIL" }], rows) + summary;
}
