import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { ListCostsRequestSchema, ListCostsResponseSchema, type ListCostsResponse } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { commandLine } from "../support/command-line.ts";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { attemptsSeen, HeldTime, simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** What one of the requests here costs: 9 tokens in at $1, 20 out at $4 a million. */
const COST = 89_000n;
const OUTPUT = 20;
/** Answers when its time is let go. */
const SLOW = { kind: "cloud", ttftMs: 1_000, ttftSigma: 0, itlMs: 1, itlSigma: 0 } as const;

let gateway: Gateway;
let simulation: Simulation;
let slow: Simulation;
const slowTime = new HeldTime();

interface Answer {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly header: (name: string) => string;
}

/** A key as `keys create` and `keys rotate` print it. */
async function keys(...argv: readonly string[]): Promise<{ id: string; key: string }> {
  const { code, out } = await commandLine(gateway, ["keys", ...argv, "-o", "json"]);
  assert.equal(code, 0, out);
  return JSON.parse(out) as { id: string; key: string };
}

async function ask(key: string, output = OUTPUT, model = "chat"): Promise<Answer> {
  const answer = await fetch(`${gateway.api}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}`, "x-signalbox-tags": "feature=limits" },
    body: JSON.stringify({ model, max_tokens: output, messages: [{ role: "user", content: `[sim tokens=${output}] hi` }] }),
  });
  const { error } = (await answer.json()) as { error?: { code: string; message: string } };
  return {
    status: answer.status,
    code: error?.code ?? "",
    message: error?.message ?? "",
    header: (name) => answer.headers.get(name) ?? "",
  };
}

async function spentOf(budget: string): Promise<bigint> {
  const { json } = await gateway.adminCall("GET", "/api/budgets");
  const budgets = json["budgets"] as { budget: string; spent_nano_usd: string }[];
  return BigInt(budgets.find((each) => each.budget === budget)!.spent_nano_usd);
}

/** Resolves when a budget shows this as spent; a figure beyond it fails at once. */
async function spends(budget: string, amount: bigint): Promise<void> {
  for (let spent = await spentOf(budget); spent !== amount; spent = await spentOf(budget)) {
    assert.ok(spent < amount, `${budget}: ${spent} spent, ${amount} due`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

before(async () => {
  simulation = await startSimulation([simulatedBackend("a", "openai", 1)]);
  slow = await startSimulation([simulatedBackend("slow", "openai", 1, SLOW)], 2, slowTime.clock);
  gateway = await startGateway({
    topology: "embedded",
    config: {
      auth: { mode: "keys" },
      backends: { ...simulation.backends, ...slow.backends },
      models: { chat: { candidates: ["a"] }, slow: { candidates: ["slow"] } },
      tenants: {
        rated: { limits: { rpm: 2 } },
        tokened: { limits: { tpm: 1000 } },
        narrow: { limits: { concurrency: 1 } },
        daily: { budgets: [{ amount: "$0.0005", per: "day", mode: "hard" }] },
        teamed: { teams: ["x", "y"], budgets: [{ team: "x", amount: "$0.0005", per: "total", mode: "hard" }] },
        soft: { budgets: [{ amount: "$0.0001", per: "month", mode: "soft", alert: ["50%"] }] },
      },
    },
  });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
  await slow?.stop();
});

test("requests, tokens and calls at once: what is said to remain is let in, the rest is 429 with the wait, and never leaves", async () => {
  const seen = attemptsSeen(simulation);
  const rated = await keys("create", "--tenant", "rated");
  const first = await ask(rated.key);
  assert.deepEqual(
    [first.status, first.header("x-ratelimit-limit-requests"), first.header("x-ratelimit-remaining-requests")],
    [200, "2", "1"],
  );
  assert.equal((await ask(rated.key)).header("x-ratelimit-remaining-requests"), "0");
  const third = await ask(rated.key);
  assert.deepEqual([third.status, third.code, third.header("x-should-retry")], [429, "rate_limit_exceeded", "true"]);
  assert.ok(Number(third.header("retry-after")) > 0 && Number(third.header("retry-after")) <= 30, third.header("retry-after"));
  const tokened = await keys("create", "--tenant", "tokened");
  const whole = await ask(tokened.key, 600);
  assert.deepEqual([whole.status, whole.header("x-ratelimit-limit-tokens")], [200, "1000"]);
  const more = await ask(tokened.key, 900);
  assert.deepEqual([more.status, more.code], [429, "rate_limit_exceeded"]);
  const narrow = await keys("create", "--tenant", "narrow");
  const running = ask(narrow.key, 4, "slow");
  while (attemptsSeen(slow) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal((await ask(narrow.key, 4, "slow")).status, 429);
  assert.equal((await slowTime.letGoFor(running)).status, 200);
  assert.deepEqual([attemptsSeen(simulation) - seen, attemptsSeen(slow)], [3, 1]);
});

test("a hard budget of a day and one of a team in all: spent to the last request that fits, and the refusal names them", async () => {
  const daily = await keys("create", "--tenant", "daily");
  let served = 0n;
  let refusal = await ask(daily.key);
  for (; refusal.status === 200; refusal = await ask(daily.key)) served++;
  assert.deepEqual([refusal.status, refusal.code, refusal.header("x-should-retry")], [429, "budget_exceeded", "false"]);
  assert.match(refusal.message, /'daily\/\*\/day\/hard' of \$0\.0005 is spent; it resets at 20\d\d-\d\d-\d\dT00:00:00Z/);
  assert.ok(served > 0n && served * COST <= 500_000n);
  await spends("daily/*/day/hard", served * COST);
  const [x, y] = [await keys("create", "--tenant", "teamed", "--team", "x"), await keys("create", "--tenant", "teamed", "--team", "y")];
  let last = await ask(x.key);
  while (last.status === 200) last = await ask(x.key);
  assert.match(last.message, /'teamed\/team:x\/total\/hard' .* it does not reset/);
  assert.equal((await ask(y.key)).status, 200, "the other team spends its own");
});

test("fault: a soft budget's first requests counted twice; it lets in until it is spent", async () => {
  const soft = await keys("create", "--tenant", "soft");
  let served = 0n;
  let answer = await ask(soft.key);
  for (; answer.status === 200; answer = await ask(soft.key)) {
    served++;
    // Booked before the budget hears of it: then both could count it.
    await gateway.entriesAtLeast(attemptsSeen(simulation) + attemptsSeen(slow));
  }
  assert.equal(answer.code, "budget_exceeded");
  await spends("soft/*/month/soft", served * COST);
});

test("a rotated key keeps its id, a revoked one is refused at once, and nothing shows a key again", async () => {
  const made = await keys("create", "--tenant", "free", "--models", "chat");
  const rotated = await keys("rotate", made.id);
  assert.deepEqual([rotated.id, (await ask(rotated.key)).status], [made.id, 200]);
  assert.equal((await commandLine(gateway, ["keys", "revoke", made.id])).code, 0);
  const refused = await ask(rotated.key);
  assert.deepEqual([refused.status, refused.code], [401, "invalid_api_key"]);
  const { out } = await commandLine(gateway, ["keys", "ls", "-o", "json"]);
  assert.ok(out.includes(made.id) && !out.includes(made.key) && !out.includes(rotated.key));
});

test("costs over gRPC are those of the command line, for the admin alone", async () => {
  await gateway.entriesAtLeast(attemptsSeen(simulation) + attemptsSeen(slow));
  const { out } = await commandLine(gateway, ["costs", "--by", "tenant,key,tag:feature", "-o", "json"]);
  const { rows } = JSON.parse(out) as { rows: Record<string, string>[] };
  const overHttp = rows.map((row) => [[row["tenant"], row["key"], row["tag:feature"]], row["requests"], row["cost_nano_usd"]]);
  const { rows: found } = await listCosts(gateway.adminToken, ["tenant", "key", "tag:feature"]);
  assert.deepEqual(
    found.map(({ group, requests, costNanoUsd }) => [group, String(requests), String(costNanoUsd)]),
    overHttp,
  );
  assert.ok(found.length >= 5);
  await assert.rejects(listCosts("nobody", ["tenant"]), /UNAUTHENTICATED/);
});

/** The ledger's own service on the gRPC port, by a second gRPC stack. */
async function listCosts(token: string, by: readonly string[]): Promise<ListCostsResponse> {
  const client = new Client(gateway.grpc, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  const request = create(ListCostsRequestSchema, { by: [...by] });
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        "/signalbox.ledger.v1.LedgerService/ListCosts",
        (message: typeof request) => Buffer.from(toBinary(ListCostsRequestSchema, message)),
        (bytes) => fromBinary(ListCostsResponseSchema, bytes),
        request,
        metadata,
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
    });
  } finally {
    client.close();
  }
}
