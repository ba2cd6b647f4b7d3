import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Pool } from "undici";
import { startGateway, type Gateway } from "../support/gateway.ts";
import { simulatedBackend, startSimulation, type Simulation } from "../support/simulated.ts";

const COUNT = 1_000;

/** Per-call overhead of the simulated provider, ms: inputs must come faster than calls end, also on a slow machine. */
const OVERHEAD_MS = 100;

/** Nano-USD per token: 1 USD per million tokens. */
const NANO_PER_TOKEN = 1_000n;

let simulation: Simulation;
let gateway: Gateway;
/** Requests that reached the provider. */
let sent = 0;

before(async () => {
  const speed = { kind: "cloud", ttftMs: OVERHEAD_MS, ttftSigma: 0, itlMs: 0, itlSigma: 0 } as const;
  const base = simulatedBackend("embedder", "openai", 1, speed);
  simulation = await startSimulation([{ ...base, profile: { ...base.profile, capabilities: ["embeddings"], contextTokens: 8_192 } }]);
  const embedder = { ...(simulation.backends["embedder"] as object), context: "8k", concurrency: { mode: "fixed", max: 4 } };
  gateway = await startGateway({
    topology: "embedded",
    config: { backends: { embedder }, models: { embed: { candidates: ["embedder"] } } },
  });
});

after(async () => {
  await gateway?.stop();
  await simulation?.stop();
});

interface EmbeddingsBody {
  readonly object: string;
  readonly data: readonly { readonly index: number; readonly embedding: readonly number[] | string }[];
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number };
}

async function embed(body: Readonly<Record<string, unknown>>): Promise<{ status: number; json: EmbeddingsBody; headers: Headers }> {
  const answer = await fetch(`${gateway.api}/v1/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "embed", ...body }),
  });
  if (answer.status === 200) sent++;
  return { status: answer.status, json: (await answer.json()) as EmbeddingsBody, headers: answer.headers };
}

test("text, texts, tokens and token arrays are embedded, as numbers and as base64 of the same numbers", async () => {
  for (const input of ["hello there", ["one", "two words"], [1, 2, 3], [[1, 2], [3]]]) {
    const count = Array.isArray(input) && typeof input[0] !== "number" ? input.length : 1;
    const plain = await embed({ input, dimensions: 8 });
    assert.equal(plain.status, 200, JSON.stringify(plain.json));
    assert.deepEqual(
      plain.json.data.map(({ index }) => index),
      [...Array(count).keys()],
    );
    const packed = await embed({ input, dimensions: 8, encoding_format: "base64" });
    for (let index = 0; index < count; index++) {
      const bytes = Buffer.from(packed.json.data[index]!.embedding as string, "base64");
      const numbers = Array.from({ length: 8 }, (_, at) => bytes.readFloatLE(4 * at));
      assert.deepEqual(plain.json.data[index]!.embedding, numbers);
    }
    assert.equal(plain.headers.get("x-signalbox-backend"), "embedder");
    assert.equal(Number(plain.headers.get("x-signalbox-cost-usd")), plain.json.usage.prompt_tokens / 1e6);
  }
});

test("what is no embeddings request is refused with the parameter's name", async () => {
  const cases: [Record<string, unknown>, string][] = [
    [{}, "input"],
    [{ input: "" }, "input"],
    [{ input: [] }, "input"],
    [{ input: ["a", ""] }, "input[1]"],
    [{ input: [[1], []] }, "input[1]"],
    [{ input: ["a", 1] }, "input[1]"],
    [{ input: "a", dimensions: 0 }, "dimensions"],
    [{ input: "a", encoding_format: "hex" }, "encoding_format"],
    [{ input: Array.from({ length: 2_049 }, () => "a") }, "input"],
    [{ input: "a", api_base: "http://x" }, "api_base"],
  ];
  for (const [body, param] of cases) {
    const { status, json } = await embed(body);
    assert.deepEqual(
      [status, (json as unknown as { error: { param: string } }).error.param],
      [400, param],
      JSON.stringify(body).slice(0, 100),
    );
  }
});

test("many inputs in one request are not held against the context of one", async () => {
  const { status, json } = await embed({
    input: Array.from({ length: 300 }, (_, index) => `${index} ${"word ".repeat(60)}`),
    dimensions: 2,
  });
  assert.equal(status, 200);
  assert.equal(json.data.length, 300);
});

test(`${COUNT} single inputs at once need at most a fifth of the calls, and tokens and costs add up exactly`, async () => {
  simulation.simulator.forget();
  const pool = new Pool(gateway.api, { connections: 250, pipelining: 1 });
  const startMs = performance.now();
  const answers = await Promise.all(
    Array.from({ length: COUNT }, async (_, index) => {
      const headers = { "content-type": "application/json", "x-request-id": `many-${index}` };
      const body = JSON.stringify({ model: "embed", input: `item ${index % 900} of many ${"x ".repeat(index % 13)}`, dimensions: 4 });
      const answer = await pool.request({ path: "/v1/embeddings", method: "POST", headers, body });
      const json = (await answer.body.json()) as EmbeddingsBody;
      assert.equal(answer.statusCode, 200, JSON.stringify(json));
      assert.equal(json.data.length, 1);
      return json;
    }),
  );
  const tookMs = performance.now() - startMs;
  await pool.destroy();
  sent += COUNT;
  const invoice = simulation.simulator.invoice();
  const told = answers.reduce((sum, { usage }) => sum + usage.prompt_tokens, 0);
  const billed = invoice.reduce((sum, line) => sum + line.input_tokens, 0);
  console.log(`${COUNT} requests in ${invoice.length} calls, ${Math.round(tookMs)} ms, ${told} tokens`);
  assert.ok(invoice.length * 5 <= COUNT, `${invoice.length} calls`);
  assert.equal(told, billed);
  const entries = (await gateway.entriesAtLeast(sent)).filter(({ request_id }) => request_id.startsWith("many-"));
  assert.equal(new Set(entries.map(({ attempt_id }) => attempt_id)).size, COUNT);
  assert.equal(
    entries.reduce((sum, entry) => sum + Number(entry.input_tokens), 0),
    billed,
  );
  assert.equal(
    entries.reduce((sum, entry) => sum + BigInt(entry.cost_nano_usd), 0n),
    BigInt(billed) * NANO_PER_TOKEN,
  );
  assert.ok(entries.every(({ outcome, estimated, output_tokens }) => outcome === "ok" && !estimated && Number(output_tokens) === 0));
});
