import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { commandLine } from "../support/command-line.ts";
import { startGateway, type Gateway, type TopologyName } from "../support/gateway.ts";
import { sendLoad, type ClientLine } from "../support/load.ts";
import { simulatedBackend, startSimulation, attemptsSeen, type Simulation } from "../support/simulated.ts";

const REQUESTS = 200;

/** What finance does with a ledger, over the command line and the admin API, near and far. `tamper` changes one entry behind its back. */
export function financeSuite(topology: TopologyName, tamper: (gateway: Gateway) => Promise<void>): void {
  let gateway: Gateway;
  let simulation: Simulation;
  let lines: readonly ClientLine[] = [];

  const cli = (...argv: readonly string[]): Promise<{ code: number; out: string }> => commandLine(gateway, argv);

  const saysItsCost = async (): Promise<boolean> => {
    const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "chat", messages: [{ role: "user", content: "what does it cost" }] }),
    });
    await answer.arrayBuffer();
    return answer.headers.has("x-signalbox-cost-usd");
  };

  before(async () => {
    simulation = await startSimulation([simulatedBackend("fin-a", "openai", 1), simulatedBackend("fin-b", "anthropic", 1.04)]);
    gateway = await startGateway({
      topology,
      config: {
        backends: simulation.backends,
        models: { chat: { candidates: ["fin-a", "fin-b"] } },
        tenants: { default: { budgets: [{ amount: "$50", per: "month", mode: "soft", alert: ["50%"] }] } },
      },
    });
    // An ingress serves before its prices are there, and cannot say then what a call costs.
    while (!(await saysItsCost()));
    simulation.simulator.fault("fin-a", "error", { p: 0.1 });
    lines = await sendLoad({
      api: gateway.api,
      count: REQUESTS,
      concurrency: 8,
      model: "chat",
      headers: { "x-signalbox-tags": "feature=search" },
    });
    await gateway.entriesAtLeast(attemptsSeen(simulation));
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  test(`${topology}: the provider's invoice and the ledger agree to the nano-dollar, and a wrong line is named`, async () => {
    const lines = simulation.simulator.invoice();
    const file = join(gateway.dir, "invoice.json");
    writeFileSync(file, JSON.stringify(lines));
    const agreeing = await cli("ledger", "reconcile", file);
    assert.equal(agreeing.code, 0, agreeing.out);
    assert.match(agreeing.out, new RegExp(`${lines.length} agree to the nano-dollar, 0 differ`));
    const [first, second, ...rest] = lines;
    const ghost = { ...second!, client_request_id: "ghost", response_id: "ghost" };
    writeFileSync(file, JSON.stringify([{ ...first!, output_tokens: first!.output_tokens + 1 }, ghost, ...rest]));
    const { code, out } = await cli("ledger", "reconcile", file, "-o", "json");
    assert.equal(code, 1);
    const { differences } = JSON.parse(out) as { differences: { kind: string; attempt_id: string; detail: string }[] };
    assert.deepEqual(
      differences.map(({ kind, attempt_id }) => [kind, attempt_id]).toSorted(([a], [b]) => (a! < b! ? -1 : 1)),
      [
        ["amount", first!.client_request_id],
        ["not_booked", "ghost"],
        ["not_invoiced", second!.client_request_id],
      ],
    );
    assert.match(differences.find(({ kind }) => kind === "amount")!.detail, /output tokens \d+ invoiced, \d+ booked/);
  });

  test(`${topology}: what each caller was told of its cost is what its entries come to`, async () => {
    const byRequest = new Map<string, bigint>();
    for (const entry of await gateway.entries())
      byRequest.set(entry.request_id, (byRequest.get(entry.request_id) ?? 0n) + BigInt(entry.cost_nano_usd));
    const told = lines.filter(({ ending }) => ending === "complete");
    assert.ok(told.some(({ stream }) => stream) && told.some(({ stream }) => !stream));
    for (const { requestId, costUsd } of told) {
      const [whole, fraction = ""] = costUsd.split(".");
      assert.equal(BigInt(whole! + fraction.padEnd(9, "0")), byRequest.get(requestId) ?? 0n, requestId);
    }
  });

  test(`${topology}: sums by any dimension are the total, FOCUS adds up to it`, async () => {
    const total = async (by: string): Promise<bigint> => {
      const { json } = await gateway.adminCall("GET", `/api/costs?by=${by}`);
      return (json["rows"] as { cost_nano_usd: string }[]).reduce((sum, row) => sum + BigInt(row.cost_nano_usd), 0n);
    };
    const whole = await total("tenant");
    assert.ok(whole > 0n);
    for (const by of ["team", "key_id", "model", "backend,provider", "day", "hour", "experiment,arm", "tag:user"])
      assert.equal(await total(by), whole, by);
    const { out } = await cli("costs", "--focus");
    const billed = out.trimEnd().split("\r\n").slice(1).map((line) => BigInt(line.split(",")[0]!.replace(".", ""))); // prettier-ignore
    assert.equal(
      billed.reduce((sum, nano) => sum + nano, 0n),
      whole,
    );
    assert.match(out, /"\{""feature"":""search"",[^\r]*""signalbox\/team"":""""\}"\r\n/, "the caller's tags travel with the charge");
    assert.match((await cli("costs", "--by", "backend")).out, /total \$/);
  });

  test(`${topology}: budgets show what was spent`, async () => {
    const { json } = await gateway.adminCall("GET", "/api/budgets");
    const [budget] = json["budgets"] as { budget: string; spent_nano_usd: string }[];
    assert.equal(budget!.budget, "default/*/month/soft");
  });

  test(`${topology}: a rotated key works, the old one within its grace`, async () => {
    const { json: made } = await gateway.adminCall("POST", "/api/keys", { tenant: "acme" });
    const { json: rotated, status } = await gateway.adminCall("POST", `/api/keys/${made["id"] as string}/rotate`, { grace_ms: 60_000 });
    assert.equal(status, 200);
    assert.equal(rotated["id"], made["id"]);
    assert.notEqual(rotated["key"], made["key"]);
  });

  test(`${topology}: the ledger verifies; one changed entry is found and the exit code is 1`, async () => {
    const sound = await cli("ledger", "verify", "-o", "json");
    assert.equal(sound.code, 0, sound.out);
    const report = JSON.parse(sound.out) as { cost_nano_usd: string; sums: Record<string, string> };
    assert.deepEqual(new Set(Object.values(report.sums)), new Set([report.cost_nano_usd]));
    await tamper(gateway);
    const changed = await cli("ledger", "verify", "-o", "json");
    assert.equal(changed.code, 1);
    assert.deepEqual(
      (JSON.parse(changed.out) as { problems: { sequence: string; kind: string }[] }).problems
        .map(({ sequence, kind }) => `${sequence} ${kind}`)
        .slice(0, 1),
      ["7 columns"],
    );
  });
}
