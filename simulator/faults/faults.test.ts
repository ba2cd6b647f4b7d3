import assert from "node:assert/strict";
import { Agent, request as httpRequest } from "node:http";
import { after, beforeEach, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { systemClock } from "#libs/clock/index.ts";
import { stringOf } from "../http/json.ts";
import { type Answer, type Bed, eventsOf, send, startBed, testProfiles, textOf, until } from "../testing/bed.ts";
import { FAULT_KINDS, faultKindOf, STATUS_KINDS } from "./kinds.ts";
import { parseFaultHeader, parseFaultOrder } from "./parse.ts";

let bed: Bed;
before(async () => {
  bed = await startBed(testProfiles(), 11);
});
beforeEach(() => {
  bed.simulator.clear();
  bed.simulator.forget();
});
after(() => bed.simulator.stop());

const streamed = (fault: string, backend = "openai"): Promise<Answer> =>
  bed.chat(backend, { stream: true, stream_options: { include_usage: true } }, { "x-sim-fault": fault });
const whole = (fault: string, backend = "openai"): Promise<Answer> => bed.chat(backend, {}, { "x-sim-fault": fault });

/** Asks, and leaves some time after `enough` was seen: what must not come has had the chance to. */
function glimpse(fault: string, enough: (text: string) => boolean): Promise<{ status: number; text: string; ended: boolean }> {
  return new Promise((resolve) => {
    let text = "";
    let status = 0;
    let ended = false;
    const request = httpRequest(`${bed.url("openai")}/v1/chat/completions`, {
      method: "POST",
      agent: false,
      headers: { "x-sim-fault": fault },
    });
    request.on("error", () => undefined);
    request.on("response", (response) => {
      status = response.statusCode!;
      response.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
        if (enough(text)) leave();
      });
      response.on("end", () => (ended = true));
      response.on("error", () => undefined);
    });
    request.end(JSON.stringify({ model: "gpt-5-mini", stream: true, messages: [{ role: "user", content: "Tell me about rivers" }] }));
    const leave = (): void => {
      systemClock.after(30, () => {
        request.destroy();
        resolve({ status, text, ended });
      });
    };
    if (enough("")) leave();
  });
}

const STATUS: Readonly<Record<string, number>> = {
  error: 500,
  "502-html": 502,
  "429-rate": 429,
  "429-quota": 429,
  "429-slow": 429,
  context_length: 400,
  content_policy: 400,
};

for (const kind of STATUS_KINDS) {
  test(`${kind} answers that status with the provider's own body, in both families`, async () => {
    const expected = STATUS[kind] ?? Number(kind);
    const openai = await whole(kind);
    const claude = await bed.message({}, { "x-sim-fault": kind });
    assert.equal(openai.status, expected);
    assert.equal(claude.status, expected);
    if (kind === "502-html") assert.match(openai.headers["content-type"]!, /html/);
    else {
      assert.deepEqual(Object.keys(openai.json()["error"]!), ["message", "type", "param", "code"]);
      assert.equal(claude.json()["type"], "error");
    }
    assert.equal(bed.simulator.invoice().length, 0);
  });
}

test("the three 429 families differ as OpenAI's do, and only the first two ask to come back", async () => {
  const [rate, quota, slow] = [await whole("429-rate"), await whole("429-quota"), await whole("429-slow")];
  assert.deepEqual(
    [rate, quota, slow].map((answer) => stringOf(answer.json()["error"]?.["type"])),
    ["requests", "insufficient_quota", "rate_limit_error"],
  );
  assert.deepEqual(
    [rate, quota, slow].map((answer) => answer.headers["retry-after"]),
    ["1", undefined, "1"],
  );
});

test("retry-after comes in seconds, as a date, in milliseconds, or not", async () => {
  assert.equal((await whole("429;retry_after_s=7")).headers["retry-after"], "7");
  assert.ok(Date.parse((await whole("429;retry_after=date;retry_after_s=60")).headers["retry-after"]!) > systemClock.now() + 50_000);
  assert.equal((await whole("429;retry_after=ms;retry_after_s=2")).headers["retry-after-ms"], "2000");
  assert.equal((await whole("429;retry_after=absent")).headers["retry-after"], undefined);
});

test("reset breaks the connection before headers", async () => {
  const answer = await whole("reset");
  assert.deepEqual([answer.status, answer.broken], [0, "ECONNRESET"]);
});

test("garbage is no HTTP", async () => {
  assert.match((await whole("garbage")).broken!, /^HPE_/);
});

test("blackhole accepts and never answers", async () => {
  assert.deepEqual(await glimpse("blackhole", () => true), { status: 0, text: "", ended: false });
});

test("stall falls silent after k tokens, or before headers", async () => {
  const some = await glimpse("stall;after_tokens=2", (text) => eventsOf(text).length === 3);
  assert.equal(some.ended, false);
  assert.equal(eventsOf(some.text).length, 3);
  assert.equal((await glimpse("stall;after_tokens=0", (text) => text !== "")).ended, false);
  await until(() => bed.simulator.invoice().length === 2, "two lines");
  assert.deepEqual(
    bed.simulator.invoice().map((line) => [line.output_tokens, line.canceled, line.stated]),
    [
      [2, true, false],
      [0, true, false],
    ],
  );
});

test("refuse closes the listener and opens it again", async () => {
  bed.simulator.fault("vllm", "refuse");
  assert.equal((await bed.chat("vllm", {})).broken, "ECONNREFUSED");
  // By itself, when its time is over.
  bed.simulator.fault("vllm", "refuse", { forMs: 80 });
  for (let round = 0; (await bed.chat("vllm", {})).status !== 200; round++) assert.ok(round < 100_000, "it never came back");
});

test("cut ends the connection after k tokens without a finish", async () => {
  const answer = await streamed("cut;after_tokens=4");
  assert.equal(answer.broken, "ECONNRESET");
  assert.equal(answer.events().length, 5);
  assert.ok(!answer.text.includes('"finish_reason":"stop"') && !answer.text.includes("[DONE]"));
});

test("cut_before_first leaves the role delta alone", async () => {
  const answer = await streamed("cut_before_first");
  assert.ok(answer.broken);
  assert.equal(textOf(answer.events()), "");
  assert.equal(answer.events().length, 1);
});

test("rst_after resets after k tokens, a cut whole answer is half a body", async () => {
  const answer = await streamed("rst_after;after_tokens=2");
  assert.ok(answer.broken);
  assert.ok(!answer.text.includes("[DONE]"));
  const half = await whole("cut");
  assert.equal(half.status, 200);
  assert.ok(half.broken);
  assert.throws(() => half.json());
});

test("error_event ends a stream in the dialect's own words", async () => {
  const openai = await streamed("error_event;after_tokens=1");
  assert.equal(openai.events().at(-1)!["error"]?.["type"], "server_error");
  assert.ok(!openai.text.includes("[DONE]"));
  const claude = await bed.message({ stream: true }, { "x-sim-fault": "error_event" });
  assert.match(claude.text, /event: error\ndata: \{"type":"error","error":\{"type":"overloaded_error"/);
});

test("malformed breaks one line and goes on; giant_line stays valid JSON", async () => {
  const malformed = await streamed("malformed");
  assert.throws(() => malformed.events(), SyntaxError);
  assert.ok(malformed.text.endsWith("data: [DONE]\n\n"));
  const giant = await streamed("giant_line;bytes=100000");
  assert.ok(giant.text.split("\n").some((line) => line.length > 100_000));
  assert.ok(giant.events().length > 5);
});

test("endless_line never ends", async () => {
  const seen = await glimpse("endless_line", (text) => text.length > 200_000);
  assert.ok(seen.text.length > 100_000);
  assert.ok(!seen.text.slice(-60_000).includes("\n"));
});

test("drip gives byte by byte", async () => {
  const seen = await glimpse("drip;delay_ms=20", (text) => text.length >= 3);
  assert.ok(seen.text.length < 50, String(seen.text.length));
});

for (const [fault, marks] of [
  ["split", /data: \[DONE\]\n\n$/],
  ["crlf", /\r\n\r\ndata: \[DONE\]\r\n\r\n$/],
  ["comments", /^: SIMULATED PROCESSING\n\ndata: /],
  ["bom", /^\ufeffdata: /],
] as const) {
  test(`${fault} changes the bytes, not the answer`, async () => {
    const plain = await bed.chat("openai", { stream: true });
    const odd = await streamed(fault);
    assert.match(odd.text, marks);
    assert.ok(textOf(plain.events()).endsWith(textOf(eventsOf(odd.text.replace("\ufeff", "")))));
  });
}

test("split writes every byte on its own", async () => {
  const sizes: number[] = [];
  await new Promise<void>((resolve) => {
    const request = httpRequest(`${bed.url("openai")}/v1/chat/completions`, {
      method: "POST",
      agent: false,
      headers: { "x-sim-fault": "split" },
    });
    request.on("response", (response) => response.on("data", (chunk: Buffer) => sizes.push(chunk.length)).on("end", resolve));
    request.end(
      JSON.stringify({ model: "gpt-5-mini", max_completion_tokens: 3, stream: true, messages: [{ role: "user", content: "x" }] }),
    );
  });
  assert.ok(sizes.length > 500);
  assert.equal(Math.max(...sizes), 1);
});

test("finish and end faults: twice, none, no [DONE], a doubled chunk, an empty first chunk", async () => {
  const finishes = (answer: Answer): number => answer.text.split('"finish_reason":"stop"').length - 1;
  assert.equal(finishes(await streamed("dup_finish")), 2);
  assert.equal(finishes(await streamed("no_finish")), 0);
  const noDone = await streamed("no_done");
  assert.deepEqual([finishes(noDone), noDone.text.includes("[DONE]"), noDone.broken], [1, false, undefined]);
  const doubled = textOf((await streamed("dup_chunk")).events());
  assert.notEqual(doubled, textOf((await bed.chat("openai", { stream: true })).events()));
  assert.deepEqual((await streamed("empty_choices_first")).events()[0]!["choices"], []);
  assert.equal((await whole("no_finish")).json()["choices"]?.[0]?.["finish_reason"], null);
});

test("usage faults: absent, early, twice, inconsistent, huge", async () => {
  const usages = async (fault: string): Promise<(number | undefined)[]> =>
    (await streamed(fault)).events().flatMap((event) => (event["usage"] ? [Number(event["usage"]["total_tokens"])] : []));
  const [honest] = await usages("comments");
  assert.deepEqual(await usages("usage_absent"), []);
  assert.equal(
    (await streamed("usage_early")).events().findIndex((event) => event["usage"]),
    1,
  );
  const twice = await usages("usage_twice");
  assert.equal(twice.length, 2);
  assert.equal(twice[1], honest);
  assert.ok(twice[0]! < honest!);
  assert.ok((await usages("usage_inconsistent"))[0]! < honest!);
  assert.deepEqual(await usages("usage_huge"), [-1]);
});

test("hollow answers: an error inside 200, and nothing at all", async () => {
  const error = await whole("ok_with_error_body");
  assert.equal(error.status, 200);
  assert.ok(error.json()["error"]);
  const empty = await streamed("empty");
  assert.deepEqual([empty.status, empty.text], [200, ""]);
  assert.equal(bed.simulator.invoice().length, 0);
});

test("a wrong content type, gzip nobody asked for, and a thousand headers", async () => {
  assert.equal((await streamed("wrong_content_type")).headers["content-type"], "text/html");
  const zipped = await new Promise<Buffer>((resolve) => {
    const request = httpRequest(`${bed.url("openai")}/v1/chat/completions`, {
      method: "POST",
      agent: false,
      headers: { "x-sim-fault": "gzip" },
    });
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      assert.equal(response.headers["content-encoding"], "gzip");
      response.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => resolve(Buffer.concat(chunks)));
    });
    request.end(JSON.stringify({ model: "gpt-5-mini", stream: true, messages: [{ role: "user", content: "x" }] }));
  });
  assert.match(gunzipSync(zipped).toString(), /data: \[DONE\]\n\n$/);
  assert.equal((await whole("many_headers;bytes=200")).headers["x-filler-199"]?.length, 32);
});

test("loading makes health and inference answer 503 as a loading llama.cpp does", async () => {
  bed.simulator.fault("llamacpp", "loading");
  const health = await bed.get("llamacpp", "/health");
  assert.deepEqual([health.status, stringOf(health.json()["error"]?.["message"])], [503, "Loading model"]);
  assert.equal((await bed.chat("llamacpp", {})).status, 503);
  bed.simulator.clear("llamacpp");
  assert.equal((await bed.get("llamacpp", "/health")).status, 200);
});

test("status faults leave health alone unless told everywhere", async () => {
  bed.simulator.fault("vllm", "error");
  assert.equal((await bed.get("vllm", "/health")).status, 200);
  bed.simulator.fault("vllm", "error", { everywhere: true });
  assert.equal((await bed.get("vllm", "/health")).status, 500);
});

test("a count ends a fault, a probability strikes its share, another backend is untouched", async () => {
  bed.simulator.fault("openai", "error", { count: 2 });
  const statuses: number[] = [];
  for (let round = 0; round < 3; round++) statuses.push((await bed.chat("openai", {})).status);
  assert.deepEqual(statuses, [500, 500, 200]);
  bed.simulator.fault("openai", "503", { p: 0.5 });
  let struck = 0;
  for (let round = 0; round < 60; round++) if ((await bed.chat("openai", {})).status === 503) struck++;
  assert.ok(struck > 12 && struck < 48, String(struck));
  assert.equal((await bed.chat("vllm", {})).status, 200);
  assert.equal(bed.simulator.calls().filter((call) => call.faults === "503").length, struck);
});

test("keepalive_jitter closes idle connections, sooner or later", async () => {
  bed.simulator.fault("openai", "keepalive_jitter", { delayMs: 20 });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const closed = new Promise<void>((resolve) => {
    const request = httpRequest(`${bed.url("openai")}/v1/models`, { agent }, (response) => response.resume());
    request.on("socket", (socket) => socket.on("close", () => resolve()));
    request.end();
  });
  await closed;
  agent.destroy();
});

test("orders are checked: kinds, names and numbers; headers carry options", () => {
  assert.deepEqual(parseFaultOrder({ backend: "a", kind: "429", p: 0.5, for_ms: 10, retry_after: "date" }), {
    backend: "a",
    kind: "429-rate",
    options: { p: 0.5, forMs: 10, retryAfter: "date" },
  });
  for (const bad of [
    1,
    {},
    { backend: "a" },
    { backend: "a", kind: "nope" },
    { backend: "a", kind: "cut", p: 2 },
    { backend: "a", kind: "cut", color: 1 },
    { backend: "a", kind: "cut", count: "x" },
  ]) {
    assert.equal(typeof parseFaultOrder(bad), "string", JSON.stringify(bad));
  }
  assert.deepEqual(parseFaultHeader("cut; after_tokens=3"), { kind: "cut", options: { afterTokens: 3 } });
  assert.equal(parseFaultHeader("nope"), undefined);
  for (const kind of FAULT_KINDS) assert.equal(faultKindOf(kind), kind);
});

test("a fault ordered in the words of the wire is the same fault", () => {
  bed.simulator.fault("openai", "hang", { backend: "openai", kind: "hang", for_ms: 50, after_tokens: 2 });
  assert.deepEqual(bed.simulator.faults().get("openai"), [{ kind: "blackhole", options: { forMs: 50, afterTokens: 2 } }]);
});

test("an unknown backend is an error that names the known ones", () => {
  assert.throws(() => bed.simulator.fault("openai", "nope"), /unknown fault kind "nope"/);
  assert.throws(() => bed.simulator.fault("nobody", "error"), /no simulated backend is called nobody; there are openai, claude/);
});

test("every kind leaves the backend answering well afterwards", async () => {
  for (const kind of FAULT_KINDS) {
    if (
      kind === "blackhole" ||
      kind === "refuse" ||
      kind === "stall" ||
      kind === "drip" ||
      kind === "endless_line" ||
      kind === "keepalive_jitter"
    )
      continue;
    await streamed(kind);
    await whole(kind);
  }
  assert.equal((await send(`${bed.url("openai")}/v1/models`, "GET", undefined, {})).status, 200);
  assert.equal((await bed.chat("openai", {})).status, 200);
});

test("a cut that waits strikes when it is told to, after what was written has been read", async () => {
  for (const kind of ["cut", "malformed"] as const) {
    const read = Promise.withResolvers<void>();
    bed.simulator.fault("openai", kind, { afterTokens: 2, until: read.promise, count: 1 });
    const response = await fetch(`${bed.url("openai")}/v1/chat/completions`, {
      method: "POST",
      body: JSON.stringify({ model: "gpt-5-mini", stream: true, messages: [{ role: "user", content: "Tell me about rivers" }] }),
    });
    let text = "";
    const whole = (async () => {
      for await (const piece of response.body!) {
        text += Buffer.from(piece as Uint8Array).toString("latin1");
        if (text.split("\n\n").length > 3) read.resolve();
      }
    })();
    if (kind === "cut") await assert.rejects(whole);
    else await whole;
    assert.equal(text.includes('chat.compl\n\ndata: {"id"'), kind === "malformed");
    assert.equal(text.endsWith("data: [DONE]\n\n"), kind === "malformed");
    if (kind === "cut") assert.equal(eventsOf(text).length, 3);
  }
});
