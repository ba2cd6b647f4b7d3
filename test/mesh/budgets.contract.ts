import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Pool } from "undici";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { attemptsSeen, simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

const REQUESTS = 500;
const WORTH = 100n;
const INGRESSES = 3;
/** Keys revoked, one after the other. */
const REVOCATIONS = 10;
/** Tokens of every answer, which is also what callers limit it to. */
const OUTPUT = 12;

interface Answer {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** Hard budgets and rates over three ingress processes; each round is a tenant of its own whose budget is spent at once. */
export function budgetsSuite(rounds: number): void {
  let gateway: Gateway;
  let simulation: Simulation;
  let cost = 0n;

  const ask = async (pool: Pool, key: string): Promise<Answer> => {
    const { statusCode, headers, body } = await pool.request({
      path: "/v1/chat/completions",
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({
        model: "chat",
        max_tokens: OUTPUT,
        messages: [{ role: "user", content: `[sim tokens=${OUTPUT}] what is left` }],
      }),
    });
    const { error } = (await body.json()) as { error?: { code: string; message: string } };
    return { status: statusCode, code: error?.code ?? "", message: error?.message ?? "", headers };
  };

  const ingresses = (): readonly string[] =>
    gateway.mesh!.processes.filter(({ role }) => role === "ingress").map(({ name }) => gateway.mesh!.url(name, "api"));

  /** A key of the tenant that every ingress knows: one that does not would refuse it. */
  const keyOf = async (tenant: string): Promise<string> => {
    const key = (await gateway.adminCall("POST", "/api/keys", { tenant })).json["key"] as string;
    const isKnown = async (api: string): Promise<boolean> =>
      (await fetch(`${api}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status === 200;
    for (const api of ingresses()) while (!(await isKnown(api))) await new Promise((resolve) => setTimeout(resolve, 20));
    return key;
  };

  /** What one of these requests costs, by the ledger of a gateway of its own. */
  const measured = async (): Promise<bigint> => {
    const single = await startGateway({
      topology: "embedded",
      config: { backends: simulation.backends, models: { chat: { candidates: ["only"] } } },
    });
    const pool = new Pool(single.api);
    await ask(pool, "any");
    const [entry] = await single.entriesAtLeast(1);
    await pool.close();
    await single.stop();
    return BigInt(entry!.cost_nano_usd);
  };

  /** Resolves when an ingress has prices: before, it lends nothing from hard budgets. */
  const priced = async (admin: string): Promise<void> => {
    while (!/prices ok/.test(await (await fetch(`${admin}/readyz?verbose`)).text()))
      await new Promise((resolve) => setTimeout(resolve, 50));
  };

  before(async () => {
    simulation = await startSimulation([simulatedBackend("only", "openai", 1)]);
    cost = await measured();
    const nano = (cost * WORTH).toString().padStart(10, "0");
    const amount = `$${nano.slice(0, -9)}.${nano.slice(-9)}`;
    const budgets = [{ amount, per: "month", mode: "hard", alert: ["50%", "100%"] }];
    gateway = await startGateway({
      topology: "mesh",
      scale: { ingress: INGRESSES, adapterAnthropic: 0 },
      config: {
        auth: { mode: "keys" },
        backends: simulation.backends,
        models: { chat: { candidates: ["only"] } },
        tenants: {
          ...Object.fromEntries(Array.from({ length: rounds }, (_, number) => [`round-${number}`, { budgets }])),
          slow: { limits: { rpm: 30 } },
        },
      },
    });
  });

  after(async () => {
    await gateway?.stop();
    await simulation?.stop();
  });

  test(`${REQUESTS} requests at once over ${INGRESSES} ingresses on a hard budget worth ${WORTH}: never overspent, used up`, async (t) => {
    const apis = ingresses();
    assert.equal(apis.length, INGRESSES);
    for (const { name, role } of gateway.mesh!.processes) if (role === "ingress") await priced(gateway.mesh!.url(name, "admin"));
    const pools = apis.map((api) => new Pool(api, { connections: Math.ceil(REQUESTS / INGRESSES) }));
    let least = 100;
    let booked = 0;
    for (let round = 0; round < rounds; round++) {
      const tenant = `round-${round}`;
      const key = await keyOf(tenant);
      const answers = await Promise.all(Array.from({ length: REQUESTS }, (_, number) => ask(pools[number % INGRESSES]!, key)));
      const served = answers.filter(({ status }) => status === 200).length;
      const refused = answers.filter(({ status }) => status !== 200);
      for (const { status, code, message, headers } of refused) {
        assert.deepEqual([status, code, headers["x-should-retry"]], [429, "budget_exceeded", "false"], message);
        assert.match(message, new RegExp(`'${tenant}/\\*/month/hard' .*resets at 20`));
      }
      booked += served;
      const entries = (await gateway.entriesAtLeast(booked)).filter((entry) => entry.tenant === tenant);
      const spent = entries.reduce((sum, entry) => sum + BigInt(entry.cost_nano_usd), 0n);
      assert.equal(entries.length, served);
      assert.ok(spent <= cost * WORTH, `round ${round}: ${spent} of ${cost * WORTH}`);
      least = Math.min(least, Number((spent * 10_000n) / (cost * WORTH)) / 100);
    }
    t.diagnostic(`${rounds} rounds of ${REQUESTS} requests: overspend 0, least utilisation ${least} %`);
    assert.ok(least >= 95, `${least} % used`);
    for (const pool of pools) await pool.close();
  });

  test("a rate is kept over all ingresses, and its headers tell what is left", async () => {
    const key = await keyOf("slow");
    const pool = new Pool(gateway.api, { connections: 20 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(pool, key)));
    const served = answers.filter(({ status }) => status === 200);
    assert.ok(served.length >= 1 && served.length <= 30 / INGRESSES + 1, `${served.length} served`);
    const refused = answers.find(({ status }) => status !== 200)!;
    assert.deepEqual([refused.status, refused.code], [429, "rate_limit_exceeded"]);
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
    assert.equal(refused.headers["x-ratelimit-limit-requests"], "30");
    assert.equal(refused.headers["x-ratelimit-remaining-requests"], "0");
    await pool.close();
  });

  test("an idempotency key is one call upstream over all ingresses, and each ingress's own while NATS is down", async () => {
    const bearer = await keyOf("other");
    const pools = ingresses().map((api) => new Pool(api, { connections: 4 }));
    const post = async (index: number, key: string, question: string): Promise<{ status: number; text: string }> => {
      const { statusCode, body } = await pools[index % INGRESSES]!.request({
        path: "/v1/chat/completions",
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${bearer}`, "idempotency-key": key },
        body: JSON.stringify({ model: "chat", messages: [{ role: "user", content: question }] }),
      });
      return { status: statusCode, text: await body.text() };
    };
    for (let round = 0; round < 5; round++) {
      const seen = attemptsSeen(simulation);
      const answers = await Promise.all(
        Array.from({ length: 12 }, (_, index) => post(index, `key-${round}`, "[sim tokens=20] who was first")),
      );
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
      assert.equal(new Set(answers.map(({ text }) => text)).size, 1, "one answer for all");
      assert.equal(attemptsSeen(simulation) - seen, 1, "one call upstream");
    }
    assert.equal((await post(1, "key-0", "another question")).status, 400);
    gateway.nats!.kill();
    const seen = attemptsSeen(simulation);
    for (let index = 0; index < INGRESSES; index++) assert.equal((await post(index, "alone", "[sim tokens=4] hello")).status, 200);
    for (let index = 0; index < INGRESSES; index++) assert.equal((await post(index, "alone", "[sim tokens=4] hello")).status, 200);
    assert.equal(attemptsSeen(simulation) - seen, INGRESSES);
    gateway.nats!.revive();
    for (const pool of pools) await pool.close();
  });

  test("a revoked key is refused by every ingress soon after, and never let in again", async (t) => {
    const waits: number[] = [];
    for (let round = 0; round < REVOCATIONS; round++) {
      const made = (await gateway.adminCall("POST", "/api/keys", { tenant: `revoked-${round}` })).json;
      assert.ok(made["key"], JSON.stringify(made));
      const status = async (api: string): Promise<number> => {
        const answer = await fetch(`${api}/v1/models`, { headers: { authorization: `Bearer ${made["key"] as string}` } });
        // An answer nobody reads keeps its connection.
        await answer.arrayBuffer();
        return answer.status;
      };
      for (const api of ingresses()) while ((await status(api)) !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
      const { status: answered } = await gateway.adminCall("DELETE", `/api/keys/${made["id"] as string}`);
      assert.equal(answered, 200);
      const startMs = performance.now();
      await Promise.all(
        ingresses().map(async (api) => {
          while ((await status(api)) !== 401) await new Promise((resolve) => setTimeout(resolve, 2));
          waits.push(performance.now() - startMs);
        }),
      );
      for (const api of ingresses()) assert.equal(await status(api), 401);
    }
    const sorted = waits.toSorted((a, b) => a - b);
    const middle = sorted[sorted.length >> 1]!;
    t.diagnostic(
      `refused everywhere after ${middle.toFixed(0)} ms in the middle, ${sorted.at(-1)!.toFixed(0)} ms at most (goal 1,000 ms), ${sorted.length} measured`,
    );
  });
}
