import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { commandLine } from "../support/command-line.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { attemptsSeen, simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** Tokens of an answer. */
const TOKENS = 6;

interface Scene {
  readonly gateway: Gateway;
  readonly simulation: Simulation;
  readonly ask: (model: string, body?: object) => Promise<Response>;
}

/** A backend with a price and one whose model no price list knows. */
async function scene(t: TestContext, onUnknown: "reject" | "allow_unpriced"): Promise<Scene> {
  const simulation = await startSimulation([simulatedBackend("priced", "openai", 1), simulatedBackend("new", "openai", 1)]);
  const { price: _, ...unknown } = simulation.backends["new"] as Record<string, unknown>;
  const gateway = await startGateway({
    topology: "embedded",
    config: {
      backends: { ...simulation.backends, new: unknown },
      prices: { on_unknown: onUnknown },
      models: { both: { candidates: ["new", "priced"] }, only: { candidates: ["new"] } },
    },
  });
  t.after(async () => {
    await gateway.stop();
    await simulation.stop();
  });
  const ask = (model: string, body: object = {}): Promise<Response> =>
    fetch(`${gateway.api}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model, messages: [{ role: "user", content: `[sim tokens=${TOKENS}] hello` }], ...body }),
    });
  return { gateway, simulation, ask };
}

test("an unknown price is refused: nothing leaves for that backend, and the caller and the operator hear why", async (t) => {
  const { gateway, simulation, ask } = await scene(t, "reject");
  for (let count = 0; count < 4; count++) {
    const answer = await ask("both");
    await answer.text();
    assert.deepEqual([answer.status, answer.headers.get("x-signalbox-backend")], [200, "priced"]);
  }
  const refused = await ask("only");
  const { error } = (await refused.json()) as { error: { code: string; message: string } };
  assert.deepEqual([refused.status, error.code], [400, "no_capable_backend"]);
  assert.match(error.message, /new.*has no price/);
  assert.equal(attemptsSeen(simulation), 4);
  const { json } = await gateway.adminCall("POST", "/api/explain", { model: "both" });
  const candidates = json["candidates"] as { backend: string; excluded: { requirement: string } | null }[];
  assert.equal(candidates.find(({ backend }) => backend === "new")!.excluded?.requirement, "price");
  assert.match(await (await fetch(`${gateway.admin}/readyz?verbose`)).text(), /price-book.*no price for new/);
  const entries = await gateway.entriesAtLeast(4);
  assert.ok(entries.every(({ backend, cost_nano_usd }) => backend === "priced" && cost_nano_usd !== "0"));
});

test("an unknown price that is allowed is marked in the entry, told instead of a cost of zero, counted, and named in every report", async (t) => {
  const { gateway, ask } = await scene(t, "allow_unpriced");
  const whole = await ask("only");
  await whole.text();
  assert.equal(whole.headers.get("x-signalbox-cost-usd"), null);
  assert.match(whole.headers.get("x-signalbox-warnings") ?? "", /cost: unknown/);
  const streamed = await (await ask("only", { stream: true, stream_options: { include_usage: true } })).text();
  assert.match(streamed, /"completion_tokens":6/);
  assert.doesNotMatch(streamed, /cost_usd/);
  const entries = await gateway.entriesAtLeast(2);
  assert.deepEqual(
    entries.map((entry) => [entry.backend, (entry as unknown as { unpriced: boolean }).unpriced, Number(entry.output_tokens)]),
    [
      ["new", true, TOKENS],
      ["new", true, TOKENS],
    ],
  );
  const metrics = await (await fetch(`${gateway.admin}/metrics`)).text();
  assert.match(metrics, /signalbox_unpriced_total\{backend="new"\} 2/);
  assert.match(metrics, /signalbox_ledger_unpriced_total 2/);
  const { json } = await gateway.adminCall("GET", "/api/costs?by=tenant");
  assert.deepEqual(json["unpriced"], [{ backend: "new", attempts: "2" }]);
  for (const format of [["--by", "backend"], ["--csv"], ["--focus"]]) {
    const { code, out } = await commandLine(gateway, ["costs", ...format]);
    assert.equal(code, 0, out);
    assert.match(out, /not complete: 2 attempts of new used something without a price/, format[0]);
  }
});
