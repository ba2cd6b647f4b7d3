// An admin port that answers with canned objects and remembers what it was asked.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { costRow, runWith, type Ran } from "./testing.ts";

/** What was asked for: method and path, credentials and body. */
interface Call {
  readonly line: string;
  readonly token: string | undefined;
  readonly body: unknown;
}

/** Two entries of the ledger, one of them an estimate of a backend with an ugly name. */
export const ENTRIES = [
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

/** A decision with one chosen and one excluded candidate. */
export const DECISION = {
  decision_id: "d1",
  request_id: "r1",
  model: "chat",
  class: "interactive",
  chosen: "gpu",
  config_version: "c1",
  queue_ms: 1250,
  ttft_target_ms: 600,
  tpot_target_ms: null,
  candidates: [
    {
      backend: "gpu",
      predicted_ttft_ms: 80,
      predicted_tpot_ms: 20,
      cost_nano_usd: "41000",
      marginal_nano_usd: "0",
      queue: 0,
      in_flight: 2,
      score: 412.31,
      standing: "free",
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
      unpriced: [{ backend: "new", attempts: "7" }],
    },
  ],
  "GET /api/costs?by=day&limit=100000": [200, { rows: [{ day: "2026-11-30" }], unpriced: [{ backend: "new", attempts: "7" }] }],
  "GET /api/costs?by=day%2Ctenant%2Cteam%2Ckey_id%2Cmodel%2Cbackend%2Cprovider%2Ctags&since=2026-11-30T00%3A00%3A00.000Z&until=2026-12-01T00%3A00%3A00.000Z&limit=100000":
    [
      200,
      {
        unpriced: [],
        rows: [costRow({ day: "2026-11-30", team: '=cmd("x")', requests: "2", cost_nano_usd: "3000000001", idle_nano_usd: "-1" })],
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

/** The server. Its `run` runs a command against it. */
export class AdminDouble {
  readonly calls: Call[] = [];
  readonly dataDir = mkdtempSync(join(tmpdir(), "signalbox-cli-"));
  /** Whether the ledger verifies. */
  isSound = true;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<void> {
    writeFileSync(join(this.dataDir, "admin.token"), "token-1\n");
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  stop(): void {
    this.#server.close();
    rmSync(this.dataDir, { recursive: true });
  }

  readonly run = (...argv: readonly string[]): Promise<Ran> =>
    runWith({}, [...argv, "--admin", `http://127.0.0.1:${this.#port}`, "--data-dir", this.dataDir]);

  get #port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const line = `${request.method} ${request.url}`;
    this.calls.push({
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
      const report = { ok: this.isSound, entries: "2", cost_nano_usd: "5", sums: { tenant: "5" }, head: "abc", problem_count: this.isSound ? "0" : "1", problems: this.isSound ? [] : [{ sequence: "7", kind: "hash", detail: "changed" }] }; // prettier-ignore
      response.end(`${JSON.stringify({ entries: "1" })}\n${JSON.stringify(report)}\n`);
      return;
    }
    if (line === "GET /config") {
      return sendJson(response, 200, { server: { api: { listen: { host: "127.0.0.1", port: this.#port } } }, models: { chat: {} } });
    }
    if (line === "POST /v1/chat/completions") return sendChat(response, JSON.parse(text) as { stream?: boolean; model: string });
    const [status, body] = JSON_ANSWERS[line] ?? [404, { error: { message: `no ${line}` } }];
    sendJson(response, status, body);
  }
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
