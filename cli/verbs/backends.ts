import type { Command } from "commander";
import type { VerbContext, VerbRunner } from "../context.ts";
import { listOf, msCell, shareCell, textCell, wordsCell, type Fields } from "../format.ts";
import { paint, type CliIo, type Style } from "../io.ts";
import { table, type Column } from "../table.ts";

const COLUMNS: readonly Column[] = [
  { title: "BACKEND" },
  { title: "PROVIDER" },
  { title: "STATE" },
  { title: "BREAKER" },
  { title: "SUCCESS", right: true },
  { title: "TTFT P50", right: true },
  { title: "P95", right: true },
  { title: "TPOT P50", right: true },
  { title: "QUEUE", right: true },
  { title: "IN FLIGHT", right: true },
  { title: "REASON" },
];

const STATE_STYLES: Readonly<Record<string, Style>> = {
  healthy: "green",
  degraded: "yellow",
  probing: "yellow",
  draining: "cyan",
  ejected: "red",
};

/** Adds `backends ls|drain|undrain`. */
export function addBackendVerbs(program: Command, runner: VerbRunner): void {
  const backends = program.command("backends").description("what requests are sent to");
  runner.run(backends.command("ls").description("list backends with their health"), async ({ admin, io, print }) => {
    const answer = await admin().call("GET", "/api/backends");
    await print(answer, () =>
      table(
        COLUMNS,
        listOf(answer, "backends").map((backend) => backendRow(backend, io)),
      ),
    );
  });
  runner.run(backends.command("drain <backend>").description("send it nothing new; requests in hand end"), (context, command) =>
    setDrain(context, "drain", command.args[0] ?? ""),
  );
  runner.run(backends.command("undrain <backend>").description("send to it again"), (context, command) =>
    setDrain(context, "undrain", command.args[0] ?? ""),
  );
}

function backendRow(backend: Fields, io: CliIo): readonly string[] {
  const state = textCell(backend["state"]);
  const style = STATE_STYLES[state];
  return [
    textCell(backend["name"]),
    textCell(backend["provider"]),
    style ? paint(io, style, state) : state,
    textCell(backend["breaker"]),
    shareCell(backend["success_rate"]),
    msCell(backend["ttft_p50_ms"]),
    msCell(backend["ttft_p95_ms"]),
    msCell(backend["tpot_p50_ms"]),
    textCell(backend["queue"]),
    `${textCell(backend["in_flight"])}/${textCell(backend["limit"])}`,
    textCell(backend["reason"]),
  ];
}

async function setDrain({ admin, print }: VerbContext, verb: "drain" | "undrain", backend: string): Promise<void> {
  const answer = await admin().call("POST", `/api/backends/${encodeURIComponent(backend)}/${verb}`);
  await print(
    answer,
    () => `${textCell(backend)} ${verb === "drain" ? "drains" : "takes requests again"}; drained: ${wordsCell(answer["drained"])}\n`,
  );
}
