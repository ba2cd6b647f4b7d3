import assert from "node:assert/strict";
import { Agent, request as httpRequest, type ClientRequest } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { FakeClock } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import type { InvoiceLine } from "./invoice.ts";
import type { SimBackendProfile } from "./profile.ts";
import { stringOf } from "./http/json.ts";
import { type Bed, type Loose, startBed, testProfiles, until } from "./testing/bed.ts";

/** Steady and slow enough to be caught in the middle: 20 ms to the first token, 5 ms a token. */
const WATCHABLE: SimBackendProfile["speed"] = {
  kind: "engine",
  overheadMs: 10,
  baseMs: 4,
  prefillMsPerToken: 0.05,
  decodeMsPerSequence: 0.5,
  kvMsPerToken: 0,
  maxSequences: 2,
  kvCapacityTokens: 10_000,
  sigma: 0,
};

let bed: Bed;
let slow: Bed;
/** The slow engines, in a time that stands still until a test lets it go: who runs and waits stays so while it is looked at. */
let held: Bed;
const heldTime = new FakeClock();
before(async () => {
  bed = await startBed();
  held = await startBed(testProfiles(WATCHABLE), 7, heldTime);
  slow = await startBed(testProfiles(WATCHABLE));
});
beforeEach(() => {
  bed.simulator.forget();
  slow.simulator.forget();
  held.simulator.forget();
});
after(() => Promise.all([bed.simulator.stop(), slow.simulator.stop(), held.simulator.stop()]));

/** Lets the held time go until the work is done. */
async function release<T>(work: Promise<T>): Promise<T> {
  const going = systemClock.every(1, () => heldTime.advance(20));
  try {
    return await work;
  } finally {
    going.cancel();
  }
}

/** A call that is left after `leaveAfter` tokens of its stream; -1 = once it is sent and computing. */
function leave(on: Bed, backend: string, stream: boolean, leaveAfter: number): Promise<void> {
  return new Promise((resolve) => {
    const isClaude = backend === "claude";
    const request: ClientRequest = httpRequest(`${on.url(backend)}/v1/${isClaude ? "messages" : "chat/completions"}`, {
      method: "POST",
      agent: new Agent(),
      headers: { "anthropic-version": "2023-06-01", "x-client-request-id": "left" },
    });
    request.on("error", () => undefined);
    request.on("close", () => resolve());
    request.on("response", (response) => {
      let seen = 0;
      response.on("data", (chunk: Buffer) => {
        seen += chunk.toString().split(/"content":" |text_delta/).length - 1;
        if (seen >= leaveAfter) request.destroy();
      });
      response.on("error", () => undefined);
    });
    const model = on.simulator.profiles.find(({ name }) => name === backend)!.model;
    request.end(JSON.stringify({ model, stream, max_tokens: 500, messages: [{ role: "user", content: "Go on [sim tokens=400]" }] }));
    if (leaveAfter < 0) void until(() => on.simulator.load(backend).running === 1, "computing").then(() => request.destroy());
  });
}

async function oneLine(on: Bed): Promise<InvoiceLine> {
  await until(() => on.simulator.invoice().length === 1, "a line");
  return on.simulator.invoice()[0]!;
}

test("the invoice says what the caller was told, in classes that do not overlap", async () => {
  const usage = (await bed.chat("openai", { reasoning_effort: "low" }, { "x-client-request-id": "attempt-1" })).json()["usage"]!;
  const line = await oneLine(bed);
  assert.equal(line.client_request_id, "attempt-1");
  assert.equal(line.input_tokens + line.cache_read_tokens, Number(usage["prompt_tokens"]));
  assert.equal(line.output_tokens, Number(usage["completion_tokens"]));
  assert.equal(line.reasoning_tokens, 16);
  assert.deepEqual([line.completed, line.canceled, line.stated, line.stream], [true, false, true, false]);
});

test("a repeated long prompt is billed from the cache, as its usage says", async () => {
  const messages = [{ role: "user", content: "A long river. ".repeat(100) }];
  await bed.chat("vllm", { messages });
  const usage = (await bed.chat("vllm", { messages, stream: true, stream_options: { include_usage: true } })).events().at(-1)!["usage"]!;
  const line = bed.simulator.invoice()[1]!;
  assert.ok(line.cache_read_tokens >= 64 * 5);
  assert.equal(line.cache_read_tokens, Number(usage["prompt_tokens_details"]?.["cached_tokens"]));
  assert.equal(line.input_tokens, Number(usage["prompt_tokens"]) - line.cache_read_tokens);
});

test("Anthropic's classes add up to the prompt", async () => {
  const usage: Loose = (await bed.message({ cache_control: { type: "ephemeral" }, stream: true }))
    .events()
    .find((event) => stringOf(event["type"]) === "message_delta")!["usage"]!;
  const line = await oneLine(bed);
  assert.deepEqual(
    [line.input_tokens, line.cache_write_tokens, line.output_tokens],
    [usage["input_tokens"], usage["cache_creation_input_tokens"], usage["output_tokens"]].map(Number),
  );
  assert.ok(line.cache_write_tokens > 0);
});

test("a stream that states no usage is billed and marked so", async () => {
  await bed.chat("openai", { stream: true });
  assert.deepEqual([(await oneLine(bed)).completed, bed.simulator.invoice()[0]!.stated], [true, false]);
});

test("every choice is billed", async () => {
  const usage = (await bed.chat("openai", { n: 4 })).json()["usage"]!;
  assert.equal((await oneLine(bed)).output_tokens, Number(usage["completion_tokens"]));
});

for (const backend of ["vllm", "claude"]) {
  test(`${backend}: a stream left in the middle bills the prompt and the tokens written`, async () => {
    await leave(slow, backend, true, 3);
    const line = await oneLine(slow);
    assert.deepEqual([line.canceled, line.completed, line.stated, line.client_request_id], [true, false, false, "left"]);
    assert.ok(line.output_tokens >= 3 && line.output_tokens < 300, stringOf(line.output_tokens));
    assert.ok(line.input_tokens > 0);
    assert.deepEqual(slow.simulator.load(backend), { running: 0, waiting: 0, kvUsage: 0, calls: 1 });
  });
}

test("a call left before its first token bills the prompt alone, a whole answer left early what was computed", async () => {
  await leave(slow, "vllm", false, -1);
  const line = await oneLine(slow);
  assert.deepEqual([line.canceled, line.stated], [true, false]);
  assert.ok(line.output_tokens < 400);
});

test("a call left in the queue bills nothing, and gauges show who runs, waits and fills the cache", async () => {
  const { simulator } = held;
  const asked = [held.chat("sglang", {}), held.chat("sglang", {})];
  await until(() => simulator.load("sglang").running === 2, "two running");
  const third = httpRequest(`${held.url("sglang")}/v1/chat/completions`, { method: "POST", agent: new Agent() });
  third.on("error", () => undefined);
  third.end(
    JSON.stringify({ model: simulator.profiles.find(({ name }) => name === "sglang")!.model, messages: [{ role: "user", content: "x" }] }),
  );
  await until(() => simulator.load("sglang").waiting === 1, "one waiting");
  const metrics = (await held.get("sglang", "/metrics")).text;
  assert.match(metrics, /^sglang:num_running_reqs\{.*\} 2$/m);
  assert.match(metrics, /^sglang:num_queue_reqs\{.*\} 1$/m);
  assert.match(metrics, /^sglang:token_usage\{.*\} 0\.00\d+$/m);
  third.destroy();
  await until(() => simulator.load("sglang").waiting === 0, "none waiting");
  await release(Promise.all(asked));
  assert.equal(simulator.invoice().length, 2);
  assert.equal(simulator.calls().length, 3);
});

test("vLLM's gauges and counters carry their exact names and move with load", async () => {
  const { simulator } = held;
  const usages = Promise.all([held.chat("vllm", {}), held.chat("vllm", {}), held.chat("vllm", {})]);
  await until(() => simulator.load("vllm").waiting === 1, "one waiting");
  const during = (await held.get("vllm", "/metrics")).text;
  assert.match(during, /^vllm:num_requests_running\{engine="0",model_name="[^"]+"\} 2$/m);
  assert.match(during, /^vllm:num_requests_waiting\{.*\} 1$/m);
  assert.match(during, /^vllm:cache_config_info\{block_size="16",.*num_gpu_blocks="625"\} 1$/m);
  const asked = (await release(usages)).map((answer) => answer.json()["usage"]!);
  const afterwards = (await held.get("vllm", "/metrics")).text;
  const read = (name: string): number => Number(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, "m").exec(afterwards)![1]);
  assert.equal(read("vllm:num_requests_running"), 0);
  assert.equal(read("vllm:kv_cache_usage_perc"), 0);
  assert.ok(read("vllm:generation_tokens_total") >= asked.reduce((sum, usage) => sum + Number(usage["completion_tokens"]), 0));
  assert.match(afterwards, /^vllm:time_to_first_token_seconds_count\{.*\} \d+$/m);
});

test("engines answer their own routes: health, version, slots, loads, metrics by their names", async () => {
  assert.equal((await bed.get("vllm", "/health")).text, "");
  assert.ok((await bed.get("vllm", "/version")).json()["version"]);
  assert.equal((await bed.get("llamacpp", "/health")).text, '{"status":"ok"}');
  assert.match((await bed.get("llamacpp", "/metrics")).text, /^llamacpp:requests_processing 0$/m);
  assert.match((await bed.get("tgi", "/metrics")).text, /^tgi_queue_size 0$/m);
  assert.equal((await bed.get("ollama", "/")).text, "Ollama is running");
  assert.equal((await bed.get("ollama", "/metrics")).status, 404);
  assert.equal((await bed.get("sglang", "/v1/loads")).json()["0"]?.["num_running_reqs"], 0);
  assert.equal(stringOf((await bed.get("claude", "/v1/models")).json()["data"]?.["0"]?.["type"]), "model");
  assert.equal((await bed.get("openai", "/v1/models/none")).status, 404);
});

test("limits answer 429 with each provider's body and headers", async () => {
  const limited = await startBed(testProfiles().map((profile) => ({ ...profile, limits: { rpm: 1 } })));
  const first = await limited.chat("openai", {});
  assert.deepEqual([first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]], ["1", "0"]);
  const second = await limited.chat("openai", {});
  assert.equal(second.status, 429);
  assert.equal(stringOf(second.json()["error"]?.["code"]), "rate_limit_exceeded");
  assert.match(second.headers["x-ratelimit-reset-requests"] as string, /^(1m0s|\d+(\.\d+)?s)$/);
  assert.ok(Number(second.headers["retry-after"]) > 50);
  await limited.message({});
  const claude = await limited.message({});
  assert.equal(stringOf(claude.json()["error"]?.["type"]), "rate_limit_error");
  assert.match(claude.headers["anthropic-ratelimit-requests-reset"] as string, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.equal(limited.simulator.invoice().length, 2);
  await limited.simulator.stop();
});

test("every backend's port gives its invoice, and embeddings are on it", async () => {
  const answer = await bed.post("openai", "/v1/embeddings", { model: "text-embedding-3-small", input: "a river" });
  const lines = (await bed.get("openai", "/invoice")).json() as unknown as InvoiceLine[];
  assert.equal(lines.length, 1);
  assert.equal(lines[0]!.input_tokens, Number(answer.json()["usage"]?.["prompt_tokens"]));
});

test("a slow reader pauses the engine instead of filling memory", async (context) => {
  const tokens = 200_000;
  const speed = { ...WATCHABLE, overheadMs: 0, baseMs: 0.001, decodeMsPerSequence: 0, prefillMsPerToken: 0, kvCapacityTokens: tokens };
  const big = await startBed(testProfiles(speed).map((profile) => ({ ...profile, maxOutputTokens: tokens, contextTokens: 2 * tokens })));
  context.after(() => big.simulator.stop());
  const request = httpRequest(`${big.url("vllm")}/v1/chat/completions`, { method: "POST", agent: new Agent() });
  request.on("error", () => undefined);
  request.on("response", (response) => response.pause());
  const model = big.simulator.profiles.find(({ name }) => name === "vllm")!.model;
  request.end(JSON.stringify({ model, stream: true, messages: [{ role: "user", content: `[sim tokens=${tokens}]` }], max_tokens: tokens }));
  let last = 0;
  let still = 0;
  await until(() => {
    const now = big.simulator.load("vllm").kvUsage;
    still = now === last && now > 0 ? still + 1 : 0;
    last = now;
    return still > 20;
  }, "a pause");
  request.destroy();
  await until(() => big.simulator.invoice().length === 1, "a line");
  assert.ok(big.simulator.invoice()[0]!.output_tokens < tokens / 2);
});
