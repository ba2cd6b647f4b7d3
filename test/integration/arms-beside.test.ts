import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { systemClock } from "#libs/clock/index.ts";
import { type Gateway, startGateway } from "../support/gateway.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

/** What is waited for comes within this, ms, or the test fails. */
const WAIT_MS = 120_000;

let simulation: Simulation;
let gateway: Gateway;
let critic: Server;

/** Verdict of the judge on everything, 0 to 10; undefined = it only chats. */
let verdict: number | undefined = 8;

/** A judge as a provider: finds the word it is told to repeat, and gives its score. */
function judge(): Promise<Server> {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece: Buffer) => (body += piece.toString()));
    request.on("end", () => {
      // Probes of the health monitor have no body.
      if (body === "") return response.end("{}");
      const { messages } = JSON.parse(body) as { messages: { content: string }[] };
      const word = /\{"verdict":"(\w+)"/.exec(messages[0]!.content)?.[1];
      const content = verdict === undefined ? "Lovely! 10 of 10." : JSON.stringify({ verdict: word, score: verdict });
      const choices = [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }];
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ id: "j", object: "chat.completion", choices, usage: { prompt_tokens: 100, completion_tokens: 10 } }));
    });
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

before(async () => {
  simulation = await startSimulation(["a", "b", "c", "d"].map((name) => simulatedBackend(name, "openai", 1)));
  critic = await judge();
  const url = `http://127.0.0.1:${(critic.address() as AddressInfo).port}/v1`;
  const critics = {
    provider: "openai-compatible",
    url,
    model: "critic",
    context: "128k",
    price: { per_million: { input: "$1", output: "$1" } },
  };
  const arms = { control: { weight: "100%", backends: ["a"] }, next: { weight: "0%", backends: ["b"] } };
  gateway = await startGateway({
    topology: "embedded",
    config: {
      backends: { ...simulation.backends, critics },
      models: { chat: { candidates: ["a", "b"] }, judged: { candidates: ["c", "d"] }, critic: { candidates: ["critics"] } },
      experiments: {
        copied: { model: "chat", unit: "request", arms, share_shadow: "100%" },
        better: {
          model: "judged",
          unit: "user",
          arms: { control: { weight: "50%", backends: ["c"] }, next: { weight: "50%", backends: ["d"], request: { system: "Be brief." } } },
          guards: { quality: "-2%" },
          judge: { model: "critic", share: "100%" },
        },
      },
    },
  });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
  critic?.closeAllConnections();
  critic?.close();
});

interface Answered {
  readonly status: number;
  readonly id: string;
  readonly experiment: string | null;
}

async function ask(model: string, user: string, stream = false): Promise<Answered> {
  const response = await fetch(`${gateway.api}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model, user, stream, max_tokens: 8, messages: [{ role: "user", content: `hello from ${user}` }] }),
  });
  const text = await response.text();
  const id = /"id":"([^"]+)"/.exec(text)?.[1] ?? "";
  if (stream) assert.ok(text.endsWith("data: [DONE]\n\n"), text.slice(-200));
  return { status: response.status, id, experiment: response.headers.get("x-signalbox-experiment") };
}

async function score(responseId: string, value: number): Promise<Response> {
  return fetch(`${gateway.api}/v1/feedback`, {
    method: "POST",
    body: JSON.stringify({ response_id: responseId, score: value, comment: "c" }),
  });
}

/** Looks again and again until `look` finds something. */
async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const endMs = systemClock.monotonicMs() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (systemClock.monotonicMs() > endMs) throw new Error(`${what}: not within ${WAIT_MS / 1000} s`);
    await systemClock.sleep(50);
  }
}

async function metric(pattern: RegExp): Promise<number> {
  const { process } = gateway;
  const text = await (await fetch(`${gateway.admin}/metrics`)).text();
  assert.ok(process !== undefined);
  return Number(pattern.exec(text)?.[1] ?? 0);
}

test("copies to a healthy, a failing, a garbled and a silent arm fail no client, and are booked on the experiment alone", async () => {
  let sent = 0;
  for (const fault of [undefined, "500", "malformed", "blackhole"]) {
    if (fault !== undefined) simulation.simulator.fault("b", fault);
    for (let number = 0; number < 6; number++) {
      const { status, experiment } = await ask("chat", `s${sent++}`, number % 2 === 1);
      assert.deepEqual([status, experiment], [200, "copied=control"]);
    }
    if (fault === undefined) {
      await until("copies are answered", async () =>
        (await metric(/shadow_copies_total\{experiment="copied",fate="answered"\} (\d+)/)) >= 6 ? true : undefined,
      );
    }
  }
  simulation.simulator.clear();
  const copies = await until("copies are booked", async () => {
    const entries = (await gateway.entries()).filter(({ tenant }) => tenant === "system");
    return entries.filter(({ outcome }) => outcome === "ok").length >= 6 ? entries : undefined;
  });
  assert.ok(copies.every((entry) => entry.team === "shadow/copied" && entry.backend === "b"));
  const clients = (await gateway.entries()).filter(({ tenant }) => tenant !== "system");
  assert.ok(
    clients.every(({ backend }) => backend !== "b"),
    "no client's entry is a copy's",
  );
  const { json } = await gateway.adminCall("GET", "/api/costs?by=tenant,experiment,arm");
  const rows = json["rows"] as {
    readonly tenant: string;
    readonly experiment: string;
    readonly arm: string;
    readonly cost_nano_usd: string;
  }[];
  const status = await until("copies are compared", async () => {
    const { json: experiment } = await gateway.adminCall("GET", "/api/experiments/copied");
    const arms = experiment["arms"] as {
      readonly name: string;
      readonly requests: number;
      readonly shadow: Record<string, unknown> | null;
    }[];
    const shadow = arms.find(({ name }) => name === "next")?.shadow as {
      readonly requests: number;
      readonly metrics: Record<string, unknown>;
    } | null;
    return shadow?.metrics["length"] !== undefined && shadow.requests >= 6 ? { experiment, arms, shadow } : undefined;
  });
  assert.equal(status.arms.find(({ name }) => name === "next")?.requests, 0, "copies are no requests of the arm");
  assert.equal(status.experiment["state"], "running", "copies that fail roll nothing back");
  for (const name of ["error", "ttft", "duration", "cost"]) assert.ok(status.shadow.metrics[name] !== undefined, name);
  const copied = rows.find((row) => row.tenant === "system" && row.experiment === "copied" && row.arm === "next");
  assert.ok(BigInt(copied!.cost_nano_usd) > 0n);
});

test("a judge and feedback change the quality of an arm, garbage from the judge changes nothing, and the quality guard rolls back", async (t) => {
  const first = await ask("judged", "u-first");
  assert.match(first.experiment ?? "", /^better=/);
  await until("the judge's score", async () =>
    (await metric(/judgements_total\{experiment="better",fate="answered"\} (\d+)/)) >= 1 ? true : undefined,
  );
  verdict = undefined;
  await ask("judged", "u-second");
  await until("garbage is counted", async () =>
    (await metric(/judgements_total\{experiment="better",fate="garbage"\} (\d+)/)) >= 1 ? true : undefined,
  );
  assert.equal((await score("chatcmpl-of-nobody", 1)).status, 404);
  let state = "running";
  let sent = 0;
  for (; sent < 400 && state === "running"; sent++) {
    const answered = await ask("judged", `u${sent}`);
    assert.equal(answered.status, 200);
    const stored = await score(answered.id, answered.experiment === "better=next" ? 0.2 : 0.9);
    assert.equal(stored.status, 200);
    if (sent % 25 === 24) state = ((await gateway.adminCall("GET", "/api/experiments/better")).json["state"] as string) ?? "";
  }
  const rolledBack = await until("the rollback", async () => {
    const { json } = await gateway.adminCall("GET", "/api/experiments/better");
    return json["state"] === "rolled_back" ? json : undefined;
  });
  const history = rolledBack["history"] as { readonly by: string; readonly reason: string }[];
  t.diagnostic(`after ${sent} scored answers: ${history.at(-1)?.by}: ${history.at(-1)?.reason}`);
  assert.match(history.at(-1)?.reason ?? "", /quality/);
  assert.equal((await ask("judged", "u-last")).experiment, "better=control");
});
