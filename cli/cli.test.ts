import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { runCli, type CliActions, type CliIo } from "./index.ts";

interface Call {
  readonly line: string;
  readonly token: string | undefined;
  readonly body: unknown;
}

const ENTRIES = [
  {
    attempt_id: "a1",
    request_id: "r1",
    attempt: 1,
    tenant: "acme",
    model: "chat",
    backend: "gpu",
    input_tokens: 10,
    output_tokens: 5,
    cost_nano_usd: "1234567",
    outcome: "ok",
    estimated: false,
    started_at: "2026-11-01T00:00:00.000001Z",
    duration_ms: 1250,
    ttft_ms: 84,
  },
  {
    attempt_id: "a2",
    request_id: "r2",
    attempt: 2,
    tenant: "acme",
    model: "chat",
    backend: "cloud\u001b[31m",
    input_tokens: 1,
    output_tokens: 0,
    cost_nano_usd: "0",
    outcome: "failed",
    estimated: true,
    started_at: "2026-11-01T00:00:01.000001Z",
    duration_ms: 3,
    ttft_ms: 0,
  },
];

const DECISION = {
  decision_id: "d1",
  request_id: "r1",
  model: "chat",
  class: "interactive",
  chosen: "gpu",
  config_version: "c1",
  candidates: [
    {
      backend: "gpu",
      predicted_ttft_ms: 80,
      predicted_tpot_ms: 20,
      cost_nano_usd: "0",
      queue: 0,
      in_flight: 2,
      score: 412.31,
      excluded: null,
    },
    {
      backend: "cloud",
      predicted_ttft_ms: 0,
      predicted_tpot_ms: 0,
      cost_nano_usd: "5000",
      queue: 0,
      in_flight: 0,
      score: 0,
      excluded: { requirement: "residency", detail: "eu wanted" },
    },
  ],
};

const JSON_ANSWERS: Readonly<Record<string, readonly [status: number, body: unknown]>> = {
  "POST /api/keys": [201, { id: "k1", key: "sk-signalbox-1", tenant: "acme", team: "search", models: [] }],
  "GET /api/keys?tenant=acme": [
    200,
    {
      keys: [
        {
          id: "k1",
          hint: "sk-...1",
          tenant: "acme",
          team: "search",
          models: ["chat"],
          name: "",
          created_at: "2026-11-01T00:00:00.000Z",
          revoked_at: null,
        },
      ],
    },
  ],
  "DELETE /api/keys/k1": [200, { id: "k1", tenant: "acme" }],
  "DELETE /api/keys/none": [404, { error: { message: "There is no key none." } }],
  "GET /api/backends": [
    200,
    {
      backends: [
        {
          name: "gpu",
          provider: "vllm",
          state: "healthy",
          breaker: "closed",
          success_rate: 0.992,
          ttft_p50_ms: 84,
          ttft_p95_ms: 1250,
          tpot_p50_ms: 4.2,
          queue: 0,
          in_flight: 3,
          limit: 64,
          reason: "",
        },
      ],
    },
  ],
  "POST /api/backends/openai%2Fgpt-5/drain": [200, { drained: ["openai/gpt-5"] }],
  "GET /api/explain/last": [200, DECISION],
  "GET /api/explain/r1": [200, DECISION],
  "POST /api/explain": [200, DECISION],
  "GET /api/costs?by=team%2Cmodel&limit=100000": [
    200,
    {
      rows: [
        {
          team: "search",
          model: "chat",
          requests: "3",
          input_tokens: "30",
          output_tokens: "15",
          cost_nano_usd: "1500000000",
          waste_nano_usd: "0",
          baseline_nano_usd: "6000000000",
        },
      ],
    },
  ],
  "GET /api/costs?by=day%2Ctenant%2Cteam%2Ckey_id%2Cmodel%2Cbackend%2Cprovider&limit=100000": [
    200,
    {
      rows: [
        {
          day: "2026-11-30",
          tenant: "acme",
          team: '=cmd("x")',
          key_id: "k1",
          model: "chat",
          backend: "gpu",
          provider: "vllm",
          requests: "2",
          input_tokens: "10",
          output_tokens: "5",
          cost_nano_usd: "3000000001",
          idle_nano_usd: "-1",
        },
      ],
    },
  ],
  "GET /api/budgets": [
    200,
    {
      budgets: [
        {
          budget: "acme/*/month/hard",
          window: "2026-11",
          amount_nano_usd: "500000000000",
          spent_nano_usd: "250000000000",
          leased_nano_usd: "1000000000",
          resets_at: "2026-12-01T00:00:00.000Z",
        },
      ],
    },
  ],
  "POST /api/keys/k1/rotate": [200, { id: "k1", key: "sk-new", tenant: "acme", team: "", old_until: "2026-11-02T00:00:00.000Z" }],
  "GET /api/ledger/summary": [200, { entries: "2" }],
  "POST /api/ledger/reconcile?only=openai": [
    200,
    {
      ok: false,
      matched: "1",
      differing: "1",
      invoiced_nano_usd: "3000000",
      booked_nano_usd: "1000000",
      anonymous: "0",
      by_kind: { not_booked: "2000000" },
      differences: [
        {
          kind: "not_booked",
          attempt_id: "a9",
          response_id: "r9",
          backend: "gpu",
          invoiced_nano_usd: "2000000",
          booked_nano_usd: "0",
          detail: "no entry",
        },
      ],
    },
  ],
  "POST /api/sim/faults": [200, { backend: "gpu", kind: "error", for_ms: 30000 }],
  "DELETE /api/sim/faults": [200, { cleared: true }],
  "GET /api/explain/forbidden": [401, { error: { message: "no" } }],
  "GET /api/explain/busy": [503, { error: { message: "This process does not reach the policy-engine." } }],
};

describe("the command line over the admin API", () => {
  const calls: Call[] = [];
  const dataDir = mkdtempSync(join(tmpdir(), "signalbox-cli-"));
  writeFileSync(join(dataDir, "admin.token"), "token-1\n");
  let admin = "";
  let isSound = true;
  const server = createServer((request, response) => void answer(request, response));

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const line = `${request.method} ${request.url}`;
    calls.push({
      line,
      token: request.headers.authorization,
      body: text === "" ? undefined : line.includes("reconcile") ? text : JSON.parse(text),
    });
    if (line.startsWith("GET /api/ledger/entries")) {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      const lines = ENTRIES.map((entry) => `${JSON.stringify(entry)}\n`).join("");
      if (line.includes("tenant=broken")) response.write(lines, () => response.destroy());
      else response.end(lines);
      return;
    }
    if (line === "GET /api/ledger/verify?progress=1") {
      const report = { ok: isSound, entries: "2", cost_nano_usd: "5", sums: { tenant: "5" }, head: "abc", problem_count: isSound ? "0" : "1", problems: isSound ? [] : [{ sequence: "7", kind: "hash", detail: "changed" }] }; // prettier-ignore
      response.end(`${JSON.stringify({ entries: "1" })}\n${JSON.stringify(report)}\n`);
      return;
    }
    if (line === "GET /config") {
      const { port } = server.address() as AddressInfo;
      return sendJson(response, 200, { server: { api: { listen: { host: "127.0.0.1", port } } }, models: { chat: {} } });
    }
    if (line === "POST /v1/chat/completions") return sendChat(response, JSON.parse(text) as { stream?: boolean; model: string });
    const [status, body] = JSON_ANSWERS[line] ?? [404, { error: { message: `no ${line}` } }];
    sendJson(response, status, body);
  }

  before(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    admin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.close();
    rmSync(dataDir, { recursive: true });
  });

  const run = (...argv: readonly string[]): Promise<Ran> => runWith({}, [...argv, "--admin", admin, "--data-dir", dataDir]);

  it("sends the token of the data folder", async () => {
    await run("backends", "ls");
    assert.deepEqual(calls.at(-1), { line: "GET /api/backends", token: "Bearer token-1", body: undefined });
  });

  it("prints a made key as one object of four fields", async () => {
    const { code, out } = await run("keys", "create", "--tenant", "acme", "--team", "search", "--models", "chat, vision", "-o", "json");
    assert.equal(code, 0);
    assert.equal(out, '{"id":"k1","key":"sk-signalbox-1","tenant":"acme","team":"search"}\n');
    assert.deepEqual(calls.at(-1)?.body, { tenant: "acme", team: "search", models: ["chat", "vision"] });
  });

  it("shows a made key first and says that it is shown once", async () => {
    const { out } = await run("keys", "create", "--tenant", "acme");
    assert.match(out, /^sk-signalbox-1\n[^]*not shown again/);
  });

  it("aligns tables", async () => {
    const { out } = await run("keys", "ls", "--tenant", "acme");
    const [title = "", row = ""] = out.split("\n");
    assert.equal(title.indexOf("TENANT"), row.indexOf("acme"));
    assert.equal(title.indexOf("MODELS"), row.indexOf("chat"));
  });

  it("encodes what it puts into a path", async () => {
    const { code, out } = await run("backends", "drain", "openai/gpt-5");
    assert.equal(code, 0);
    assert.match(out, /openai\/gpt-5 drains/);
  });

  it("prints a decision as it came with -o json, and as a table without", async () => {
    assert.deepEqual(JSON.parse((await run("explain", "--last", "-o", "json")).out), DECISION);
    const { out } = await run("explain", "r1");
    assert.match(out, /\* +gpu +80ms +20ms/);
    assert.match(out, /cloud .*residency: eu wanted/);
  });

  it("asks for a dry run with what the flags say", async () => {
    await run(
      "explain",
      "-m",
      "chat",
      "--input-tokens",
      "5000",
      "--class",
      "batch",
      "--needs",
      "tools,vision",
      "--tag",
      "team=search",
      "--tag",
      "a=b=c",
    );
    assert.deepEqual(calls.at(-1)?.body, {
      model: "chat",
      input_tokens: 5000,
      class: "batch",
      needs: ["tools", "vision"],
      tags: { team: "search", a: "b=c" },
    });
  });

  it("exports one object per line, byte for byte as the ledger gives them", async () => {
    const { code, out } = await run("ledger", "export", "-o", "json");
    assert.equal(code, 0);
    assert.deepEqual(
      out
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
      ENTRIES,
    );
  });

  it("shows money, marks estimates and defuses control characters in tables", async () => {
    const { out } = await run("ledger", "export");
    assert.match(out, /\$0\.001235 +ok/);
    assert.match(out, /\$0\.000000~ +failed/);
    assert.ok(!out.includes("\u001b"));
  });

  it("fails when an export breaks off", async () => {
    const { code, err } = await run("ledger", "export", "--tenant", "broken", "-o", "json");
    assert.equal(code, 1);
    assert.match(err, /not complete/);
  });

  it("groups costs and shows what was saved", async () => {
    const { out } = await run("costs", "--by", "team,model");
    assert.match(out, /search +chat +3 +30 +15 +\$1\.500000 +\$0\.000000 +\$6\.000000 +75\.0%/);
  });

  it("writes FOCUS charges: exact dollars, idle rent apart, formulas defused", async () => {
    const { out } = await run("costs", "--focus");
    const [heading, used, idle] = out.split("\r\n");
    assert.match(heading!, /^BilledCost,BillingAccountId,.*,ServiceCategory,.*,Tags$/);
    assert.match(
      used!,
      /^3\.000000002,acme,acme,USD,2026-12-01T00:00:00Z,2026-11-01T00:00:00Z,Usage,,2 requests to gpu,Usage-Based,2026-12-01T00:00:00Z,2026-11-30T00:00:00Z,15,Tokens,/,
    );
    assert.ok(used!.includes(`"'=cmd(""x"")"`));
    assert.match(idle!, /^-0\.000000001,.*idle time of gpu,Recurring,/);
  });

  it("verifies: 0 and the sums when the ledger is sound, 1 and the entry when it was changed", async () => {
    const sound = await run("ledger", "verify");
    assert.deepEqual([sound.code, sound.out.includes("by tenant   $0.000000")], [0, true]);
    isSound = false;
    const changed = await run("ledger", "verify");
    isSound = true;
    assert.equal(changed.code, 1);
    assert.match(changed.out, /7 +hash +changed/);
  });

  it("sends an invoice as it is, shows every difference and answers 1", async () => {
    const file = join(dataDir, "invoice.csv");
    writeFileSync(file, "id,cost\nr1,1\n");
    const { code, out } = await run("ledger", "reconcile", file, "--only", "openai");
    assert.equal(code, 1);
    assert.equal(calls.at(-1)?.body, "id,cost\nr1,1\n");
    assert.match(out, /not_booked +a9 +r9 +gpu +\$0\.002000 +\$0\.000000 +no entry/);
    assert.equal((await run("ledger", "reconcile", join(dataDir, "absent.csv"))).code, 2);
    assert.equal((await run("ledger", "reconcile", "http://127.0.0.1:1/invoice")).code, 3);
  });

  it("lists budgets and rotates keys", async () => {
    assert.match(
      (await run("budgets", "ls")).out,
      /acme\/\*\/month\/hard +2026-11 +\$500\.000000 +\$250\.000000 +50\.0% +\$1\.000000 +2026-12-01T00:00:00Z/,
    );
    const { out } = await run("keys", "rotate", "k1", "--grace", "24h");
    assert.deepEqual(calls.at(-1)?.body, { grace_ms: 86_400_000 });
    assert.match(out, /^sk-new\n\n.*works until 2026-11-02T00:00:00Z/);
  });

  it("sets and clears faults", async () => {
    const { out } = await run("sim", "fault", "gpu", "error", "--for", "30s", "--set", "p=0.5");
    assert.deepEqual(calls.at(-1)?.body, { p: 0.5, backend: "gpu", kind: "error", for_ms: 30_000 });
    assert.match(out, /for 30 s/);
    assert.equal((await run("sim", "clear")).code, 0);
  });

  it("talks to the API the server names, whole and as a stream", async () => {
    const whole = await run("chat", "hi", "-o", "json");
    assert.equal((JSON.parse(whole.out) as { content: string }).content, "hello chat");
    assert.match((await run("chat", "hi", "--stream")).out, /^hello chat\n\nbackend gpu {2}ttft .* cost \$0\.000012/);
  });

  it("does not take a stream that fails, or that ends early, for an answer", async () => {
    assert.deepEqual(pick(await run("chat", "hi", "--stream", "-m", "failing")), [1, "signalbox: the stream failed: upstream died\n"]);
    assert.match((await run("chat", "hi", "--stream", "-m", "cut")).err, /without \[DONE\]/);
  });

  it("answers 1 with the server's words when it refuses", async () => {
    assert.deepEqual(pick(await run("keys", "revoke", "none")), [1, "signalbox: There is no key none.\n"]);
    assert.deepEqual(pick(await run("explain", "busy")), [1, "signalbox: This process does not reach the policy-engine.\n"]);
  });

  it("says which token was wrong", async () => {
    const { code, err } = await run("explain", "forbidden");
    assert.equal(code, 1);
    assert.match(err, /admin\.token is not the token of .*--data-dir/);
  });
});

describe("the command line alone", () => {
  it("answers 3 and one line when nothing listens", async () => {
    const { code, err } = await runWith({ SIGNALBOX_ADMIN: "127.0.0.1:1" }, ["backends", "ls"]);
    assert.equal(code, 3);
    assert.match(err, /^signalbox: nothing answers at http:\/\/127\.0\.0\.1:1 .*`signalbox dev`.*\n$/);
  });

  for (const argv of [
    ["nonsense"],
    ["keys"],
    ["keys", "create"],
    ["explain"],
    ["explain", "r1", "--last"],
    ["bench", "--rps", "0"],
    ["serve", "--role", "ingres"],
    ["costs", "--since", "yesterday"],
    ["backends", "ls", "-o", "yaml"],
  ]) {
    it(`answers 2 to \`${argv.join(" ")}\``, async () => {
      const { code, err } = await runWith({}, argv);
      assert.equal(code, 2);
      assert.notEqual(err, "");
    });
  }

  for (const argv of [["top"], ["tap"]]) {
    it(`says in one line that \`${argv.join(" ")}\` is not built`, async () => {
      const { code, err } = await runWith({}, argv);
      assert.equal(code, 2);
      assert.match(err, /^signalbox: `signalbox [a-z ]+` is not built yet\n$/);
    });
  }

  it("gives help on stdout and 0", async () => {
    const { code, out } = await runWith({}, ["--help"]);
    assert.equal(code, 0);
    assert.match(out, /ledger/);
    assert.doesNotMatch(out, /^ +tap/m);
  });

  it("hands flags and environment to what it starts, and its exit code back", async () => {
    const { code, started } = await runWith({ SIGNALBOX_CONFIG: "/tmp/a.yaml", SIGNALBOX_LOG_LEVEL: "debug" }, [
      "serve",
      "--role",
      "ingress",
      "--role",
      "provider-adapters:anthropic",
      "--admin-port",
      "0",
      "--data-dir",
      "/tmp/d",
    ]);
    assert.equal(code, 7);
    assert.partialDeepStrictEqual(started, {
      configFile: "/tmp/a.yaml",
      logLevel: "debug",
      roles: ["ingress", "provider-adapters:anthropic"],
      adminPort: 0,
      port: undefined,
      dataDir: "/tmp/d",
    });
  });

  it("renders checks and answers 1 when one fails", async () => {
    const { code, out } = await runWith({}, ["check"]);
    assert.equal(code, 1);
    assert.match(out, /fail {3}nats {4}nothing answers: start nats-server -js/);
  });

  it("validates a file, pointing at each mistake, and answers 2", async () => {
    const folder = mkdtempSync(join(tmpdir(), "signalbox-validate-"));
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "version: 1\nbackends: { a: { provider: vlm, model: m } }\n");
    const { code, err } = await runWith({}, ["config", "validate", file]);
    rmSync(folder, { recursive: true });
    assert.equal(code, 2);
    assert.match(err, /bad\.yaml:2:28: backends\.a\.provider: .*did you mean "vllm"/);
  });

  it("prints colours only on a terminal that wants them", async () => {
    assert.ok((await runWith({}, ["check"], true)).out.includes("\u001b["));
    assert.ok(!(await runWith({ NO_COLOR: "1" }, ["check"], true)).out.includes("\u001b["));
  });
});

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly started: unknown;
}

function pick({ code, err }: Ran): readonly [number, string] {
  return [code, err];
}

async function runWith(env: CliIo["env"], argv: readonly string[], isTty = false): Promise<Ran> {
  let out = "";
  let err = "";
  let started: unknown;
  const start = (options: unknown): Promise<number> => {
    started = options;
    return Promise.resolve(7);
  };
  const actions: CliActions = {
    dev: start,
    serve: start,
    simServe: start,
    bench: start,
    replay: () => Promise.reject(new Error("not asked for")),
    check: () =>
      Promise.resolve([
        { name: "config", state: "ok", detail: "fine", fix: "" },
        { name: "nats", state: "fail", detail: "nothing answers", fix: "start nats-server -js" },
      ]),
  };
  const io: CliIo = {
    env,
    out: (text) => {
      out += text;
      return Promise.resolve();
    },
    err: (text) => {
      err += text;
    },
    outIsTty: isTty,
    errIsTty: false,
    fetch: globalThis.fetch,
  };
  const code = await runCli(argv, actions, io);
  return { code, out, err, started };
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function sendChat(response: ServerResponse, { stream, model }: { stream?: boolean; model: string }): void {
  const headers = { "x-signalbox-backend": "gpu", "x-signalbox-model": model, "x-request-id": "r1", "x-signalbox-cost-usd": "0.000012" };
  if (!stream) {
    response.writeHead(200, { ...headers, "content-type": "application/json" });
    response.end(JSON.stringify({ choices: [{ message: { role: "assistant", content: `hello ${model}` } }] }));
    return;
  }
  response.writeHead(200, { ...headers, "content-type": "text/event-stream" });
  const event = (data: unknown): void => void response.write(`data: ${JSON.stringify(data)}\n\n`);
  event({ choices: [{ delta: { role: "assistant" } }] });
  event({ choices: [{ delta: { content: "hello " } }] });
  if (model === "failing") event({ error: { message: "upstream died" } });
  else event({ choices: [{ delta: { content: model } }] });
  if (model === "chat") {
    event({ choices: [], usage: {}, signalbox: { cost_usd: "0.000012" } });
    response.write("data: [DONE]\n\n");
  }
  response.end();
}
