import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { Dialect } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { answerJson, backendOf, createRig, type Provider, Recorder, type Rig, startProvider } from "../module.testkit.ts";

interface Body {
  readonly input: readonly string[];
  readonly encoding_format?: string;
}

const POISON = "poison";

/** Answers like OpenAI: a vector that tells the input, a token per character; refuses the poison. */
function answer(response: ServerResponse, body: string): void {
  const { input } = JSON.parse(body) as { input: string | string[] };
  const inputs = typeof input === "string" ? [input] : input;
  if (inputs.includes(POISON)) return answerJson(response, { error: { message: "bad input", type: "invalid_request_error" } }, 400);
  const data = inputs.map((text, index) => ({ object: "embedding", index, embedding: [text.length, text.charCodeAt(0)] }));
  const tokens = inputs.join("").length;
  answerJson(response, { object: "list", data, model: "m-2", usage: { prompt_tokens: tokens, total_tokens: tokens } });
}

/** A provider that holds the first call until told, so that the others gather. */
async function gathered(
  use: (rig: Rig, embed: (text: string, id?: string, more?: object) => Recorder, provider: Provider, release: () => void) => Promise<void>,
): Promise<void> {
  let held: (() => void) | undefined;
  let holding = true;
  const provider = await startProvider((_request, response, body) => {
    if (!holding) return answer(response, body);
    holding = false;
    held = () => answer(response, body);
    provider.server.emit("held");
  });
  const rig = createRig([backendOf({ url: provider.url })]);
  let ids = 0;
  const embed = (text: string, id = `a${ids++}`, more: object = {}): Recorder =>
    rig.attempt({
      attemptId: id,
      dialect: Dialect.OPENAI_EMBEDDINGS,
      stream: false,
      body: Buffer.from(JSON.stringify({ model: "chat", input: text, ...more })),
    });
  try {
    const isHeld = once(provider.server, "held");
    const first = embed("first");
    await isHeld;
    await use(rig, embed, provider, () => held!());
    assert.equal((await first.ended).outcome, Outcome.OK);
    assert.equal(rig.host.inFlight(), 0);
  } finally {
    await rig.host.module.stop();
    await provider.close();
  }
}

function bodyOf(provider: Provider, index: number): Body {
  return JSON.parse(provider.requests[index]!.body) as Body;
}

test("requests that come while a call runs share the next one, each with its own answer, tokens and attempt", () =>
  gathered(async (_rig, embed, provider, release) => {
    const texts = ["three", "a", "three", "four four"];
    const recorders = texts.map((text) => embed(text));
    release();
    const ends = await Promise.all(recorders.map(({ ended }) => ended));
    assert.equal(provider.requests.length, 2);
    assert.deepEqual(bodyOf(provider, 1).input, ["a", "three", "four four"]);
    for (const [index, recorder] of recorders.entries()) {
      const body = JSON.parse(recorder.text) as { data: { index: number; embedding: number[] }[]; usage: { prompt_tokens: number } };
      assert.deepEqual(body.data, [{ object: "embedding", index: 0, embedding: [texts[index]!.length, texts[index]!.charCodeAt(0)] }]);
      assert.equal(body.usage.prompt_tokens, ends[index]!.usage!.inputTokens);
      assert.equal(ends[index]!.usageKnown, true);
    }
    assert.equal(
      ends.reduce((sum, end) => sum + end.usage!.inputTokens, 0),
      "athreefour four".length,
    );
  }));

test("one poisoned input fails alone", () =>
  gathered(async (_rig, embed, provider, release) => {
    const texts = ["one", "two", POISON, "four", "five"];
    const recorders = texts.map((text) => embed(text));
    release();
    const ends = await Promise.all(recorders.map(({ ended }) => ended));
    assert.deepEqual(
      ends.map(({ outcome }) => outcome === Outcome.OK),
      [true, true, false, true, true],
    );
    assert.deepEqual(
      [ends[2]!.error!.reason, ends[2]!.error!.httpStatus, ends[2]!.error!.message],
      ["UPSTREAM_REJECTED", 400, "bad input"],
    );
    assert.ok(provider.requests.length <= 1 + 2 * Math.ceil(Math.log2(texts.length)) + 1, `${provider.requests.length} calls`);
  }));

test("a caller that leaves before the call takes its input along, and costs nothing", () =>
  gathered(async (_rig, embed, provider, release) => {
    const stays = embed("stays");
    const leaves = embed("leaves");
    leaves.handle!.cancel("canceled");
    const end = await leaves.ended;
    assert.deepEqual([end.outcome, end.dispatched], [Outcome.CANCELED, false]);
    release();
    await stays.ended;
    assert.deepEqual(bodyOf(provider, 1).input, "stays");
  }));

test("different dimensions, encodings and unknown members do not mix", () =>
  gathered(async (_rig, embed, provider, release) => {
    const recorders = [
      embed("a", "1", { dimensions: 2 }),
      embed("b", "2", { dimensions: 3 }),
      embed("c", "3", { encoding_format: "base64" }),
      embed("d", "4", { future_option: true }),
    ];
    release();
    await Promise.all(recorders.map(({ ended }) => ended));
    assert.equal(provider.requests.length, 5);
  }));

test("requests that may not share a call were refused as busy while another kind held the only one: they wait for it", async () => {
  let running = 0;
  let most = 0;
  const provider = await startProvider((_request, response, body) => {
    most = Math.max(most, ++running);
    setImmediate(() => {
      running--;
      answer(response, body);
    });
  });
  const rig = createRig([backendOf({ url: provider.url, concurrency: { mode: "fixed", min: 1, max: 1 } })]);
  try {
    const recorders = Array.from({ length: 20 }, (_, index) =>
      rig.attempt({
        attemptId: `a${index}`,
        dialect: Dialect.OPENAI_EMBEDDINGS,
        stream: false,
        body: Buffer.from(JSON.stringify({ model: "chat", input: "text", dimensions: 1 + (index % 10) })),
      }),
    );
    recorders[3]!.handle!.cancel("canceled");
    const ends = await Promise.all(recorders.map(({ ended }) => ended));
    assert.deepEqual(
      ends.map(({ outcome }) => outcome),
      ends.map((_, index) => (index === 3 ? Outcome.CANCELED : Outcome.OK)),
    );
    assert.equal(most, 1);
    assert.equal(rig.host.inFlight(), 0);
  } finally {
    await rig.host.module.stop();
    await provider.close();
  }
});

test("a request alone goes upstream as it came, under its own id", () =>
  gathered(async (_rig, _embed, provider, release) => {
    release();
    assert.deepEqual(JSON.parse(provider.requests[0]!.body), { model: "upstream-model", input: "first" });
    assert.equal(provider.requests[0]!.headers["x-client-request-id"], "a0");
    assert.equal(provider.requests[0]!.path, "/v1/embeddings");
  }));
