import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { SignalboxError } from "#libs/errors/index.ts";
import { answerBody, chatBody, FakePolicy, postChat, startIngress, testConfig, type TestIngress } from "./testing.ts";

interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
  request_id: string;
}

let ingress: TestIngress;
/** One that waits for nobody: on a machine that stands still for a moment it refuses whole requests too. */
let hasty: TestIngress;
before(async () => {
  const { server } = testConfig();
  const api = { ...server.api, headersMaxBytes: 4_096 };
  ingress = await startIngress({ config: testConfig({ server: { ...server, api } }) });
  hasty = await startIngress({ config: testConfig({ server: { ...server, api: { ...api, headerTimeoutMs: 400, bodyTimeoutMs: 400 } } }) });
  ingress.adapters.answers("alpha", ["canary-answer"]);
});
after(() => Promise.all([ingress.stop(), hasty.stop()]));
beforeEach(() => {
  ingress.adapters.attempts.length = 0;
  ingress.log.lines.length = 0;
  ingress.policy.answer = new FakePolicy().answer;
});

async function refusal(response: Response, status: number, code: string): Promise<ErrorBody> {
  const body = (await response.json()) as ErrorBody;
  assert.equal(response.status, status, JSON.stringify(body));
  assert.equal(response.headers.get("content-type"), "application/json");
  assert.deepEqual(Object.keys(body.error).sort(), ["code", "message", "param", "type"]);
  assert.equal(body.error.code, code);
  assert.equal(body.request_id, response.headers.get("x-request-id"));
  assert.match(response.headers.get("x-should-retry") ?? "", /^(true|false)$/);
  return body;
}

/** Sends bytes and returns everything until the server closes. */
async function raw(text: string | Buffer, to = ingress): Promise<string> {
  const socket = connect(to.port, "127.0.0.1");
  let answer = "";
  socket.on("data", (piece) => (answer += piece.toString("latin1")));
  socket.on("error", () => {});
  socket.write(text);
  await once(socket, "close");
  return answer;
}

test("what is no route, method or encoding of ours is refused in OpenAI's shape", async () => {
  await refusal(await fetch(`${ingress.url}/v2/chat`), 404, "unknown_url");
  await refusal(await fetch(`${ingress.url}/`), 404, "unknown_url");
  const wrongMethod = await fetch(`${ingress.url}/v1/chat/completions`);
  assert.equal(wrongMethod.headers.get("allow"), "POST");
  await refusal(wrongMethod, 405, "method_not_allowed");
  await refusal(await fetch(`${ingress.url}/v1/models`, { method: "DELETE" }), 405, "method_not_allowed");
  await refusal(await fetch(`${ingress.url}/v1/chat/completions`, { method: "OPTIONS" }), 405, "method_not_allowed");
  await refusal(await postChat(ingress, chatBody(), { headers: { "content-encoding": "gzip" } }), 415, "unsupported_encoding");
});

test("no CORS header leaves, and in open mode pages of other origins are refused", async () => {
  const refused = await postChat(ingress, chatBody(), { headers: { origin: "https://evil.example" } });
  assert.equal(refused.headers.get("access-control-allow-origin"), null);
  await refusal(refused, 403, "origin_not_allowed");
  assert.equal((await postChat(ingress, chatBody(), { headers: { origin: "http://localhost:3000" } })).status, 200);
  assert.equal(ingress.adapters.attempts.length, 1);
});

test("a request that comes round again is refused as a loop", async () => {
  await refusal(await postChat(ingress, chatBody(), { headers: { "x-signalbox-hop": "1", via: "1.1 signalbox" } }), 508, "loop_detected");
});

test("a body larger than allowed is refused, announced or not", async () => {
  const big = JSON.stringify(chatBody({ messages: [{ role: "user", content: "x".repeat(300 * 1024) }] }));
  const announced = await postChat(ingress, big);
  assert.equal(announced.headers.get("connection"), "close");
  await refusal(announced, 413, "request_too_large");
  const chunk = `${(64 * 1024).toString(16)}\r\n${"x".repeat(64 * 1024)}\r\n`;
  const answer = await raw(`POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n${chunk.repeat(6)}`);
  assert.match(answer, /^HTTP\/1.1 413 /);
  assert.match(answer, /connection: close/i);
  assert.match(answer, /"code":"request_too_large"/);
});

test("heads and bodies that never end are answered with 408", async () => {
  assert.match(await raw("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n", hasty), /^HTTP\/1.1 408 [\s\S]*"code":"request_timeout"/);
  const body = await raw("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{", hasty);
  assert.match(body, /^HTTP\/1.1 408 [\s\S]*"code":"request_timeout"/);
});

test("heads that are too large are answered with 431", async () => {
  const answer = await raw(`GET /v1/models HTTP/1.1\r\nhost: x\r\nx-long: ${"a".repeat(8_000)}\r\n\r\n`);
  assert.match(answer, /^HTTP\/1.1 431 [\s\S]*"code":"headers_too_large"/);
});

const MALFORMED: [string, string][] = [
  ["no host", "GET /v1/models HTTP/1.1\r\n\r\n"],
  ["two hosts", "GET /v1/models HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n"],
  ["two lengths", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"],
  [
    "length and chunks",
    "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
  ],
  ["a signed length", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nhello"],
  ["a hexadecimal length", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0x5\r\n\r\nhello"],
  ["a folded header", "GET /v1/models HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\r\n\r\n"],
  ["a space before the colon", "GET /v1/models HTTP/1.1\r\nhost : x\r\n\r\n"],
  ["HTTP/0.9", "GET /v1/models\r\n\r\n"],
  ["chunks in HTTP/1.0", "POST /v1/chat/completions HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
  ["a chunk size that is none", "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"],
  ["a NUL in a header", "GET /v1/models HTTP/1.1\r\nhost: x\r\nx-a: b\u0000c\r\n\r\n"],
  ["bytes that are no request", "\u0016\u0003\u0001\u0002\u0000\u0001\r\n\r\n"],
];
for (const [name, text] of MALFORMED) {
  test(`${name} is refused with 400 and nothing behind it is answered`, async () => {
    const answer = await raw(`${text}GET /v1/models/canary HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    assert.match(answer, /^HTTP\/1.1 400 /, answer);
    assert.match(answer, /"code":"(invalid_request|invalid_json)"/);
    if (name !== "no host" && name !== "two hosts") assert.equal(answer.match(/HTTP\/1\.1 \d/g)?.length, 1, answer);
  });
}

const INVALID: [string, string | Buffer, string, string | null][] = [
  ["nothing", "", "invalid_json", null],
  ["text", "hello", "invalid_json", null],
  ["an array", "[]", "invalid_json", null],
  ["half an object", '{"model":', "invalid_json", null],
  ["a byte order mark", Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from("{}")]), "invalid_json", null],
  ["bad UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), "invalid_json", null],
  ["a lone surrogate", '{"model":"chat","messages":[{"role":"user","content":"\\ud800"}]}', "invalid_json", null],
  ["__proto__", '{"model":"chat","messages":[{"role":"user","content":"x","__proto__":{"polluted":true}}]}', "invalid_json", null],
  ["escaped __proto__", '{"\\u005f_proto__":{"polluted":true}}', "invalid_json", null],
  ["100,000 levels", `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, "invalid_json", null],
  ["no model", '{"messages":[{"role":"user","content":"x"}]}', "invalid_value", "model"],
  ["a model with controls", '{"model":"a\\u0000b","messages":[]}', "invalid_value", "model"],
  ["no messages", '{"model":"chat","messages":[]}', "invalid_value", "messages"],
  ["an unknown role", '{"model":"chat","messages":[{"role":"boss","content":"x"}]}', "invalid_value", "messages[0].role"],
  ["a user without content", '{"model":"chat","messages":[{"role":"user"}]}', "invalid_value", "messages[0].content"],
  [
    "a tool answer without its call",
    '{"model":"chat","messages":[{"role":"tool","content":"x"}]}',
    "invalid_value",
    "messages[0].tool_call_id",
  ],
  [
    "an image from a file",
    '{"model":"chat","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}',
    "invalid_value",
    "messages[0].content[0].image_url.url",
  ],
];
for (const [name, body, code, param] of INVALID) {
  test(`a body that is or has ${name} is refused with 400 ${code}`, async () => {
    const { error } = await refusal(await postChat(ingress, body as string), 400, code);
    assert.equal(error.param, param);
    assert.equal(error.type, "invalid_request_error");
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
  });
}

const PARAMETERS: [Record<string, unknown>, string][] = [
  [{ temperature: 3 }, "temperature"],
  [{ temperature: "hot" }, "temperature"],
  [{ top_p: -1 }, "top_p"],
  [{ frequency_penalty: 2.5 }, "frequency_penalty"],
  [{ n: 0 }, "n"],
  [{ n: 1.5 }, "n"],
  [{ n: 129 }, "n"],
  [{ max_tokens: 0 }, "max_tokens"],
  [{ max_completion_tokens: -5 }, "max_completion_tokens"],
  [{ top_logprobs: 21 }, "top_logprobs"],
  [{ stop: ["1", "2", "3", "4", "5"] }, "stop"],
  [{ stream: "yes" }, "stream"],
  [{ stream_options: { include_usage: true } }, "stream_options"],
  [{ stream: true, stream_options: { include_usage: 1 } }, "stream_options.include_usage"],
  [{ tools: {} }, "tools"],
  [{ tools: [{ type: "function" }] }, "tools[0].function"],
  [{ tool_choice: "maybe" }, "tool_choice"],
  [{ response_format: { type: "xml" } }, "response_format.type"],
  [{ response_format: { type: "json_schema" } }, "response_format.json_schema"],
  [{ service_tier: "gold" }, "service_tier"],
  [{ metadata: { a: 1 } }, "metadata.a"],
  [{ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, "v"])) }, "metadata"],
  [{ modalities: ["smell"] }, "modalities"],
  [{ user: 5 }, "user"],
];
for (const [parts, param] of PARAMETERS) {
  test(`${JSON.stringify(parts).slice(0, 60)} is refused naming ${param}`, async () => {
    assert.equal((await refusal(await postChat(ingress, chatBody(parts)), 400, "invalid_value")).error.param, param);
  });
}

test("destinations and credentials in the body are refused by name", async () => {
  for (const name of ["api_base", "base_url", "api_key"]) {
    const { error } = await refusal(await postChat(ingress, chatBody({ [name]: "http://127.0.0.1:1/" })), 400, "unsupported_parameter");
    assert.equal(error.param, name);
  }
});

test("every documented chat parameter passes through byte for byte", async () => {
  const body = JSON.stringify({
    ...chatBody(), audio: null, frequency_penalty: 0, function_call: "auto", functions: [{ name: "f" }], logit_bias: { "1": 2 }, logprobs: true,
    max_completion_tokens: 9, max_tokens: 9, metadata: { a: "b" }, modalities: ["text"], moderation: { model: "m" }, n: 1, parallel_tool_calls: true,
    prediction: { type: "content", content: "x" }, presence_penalty: 0, prompt_cache_key: "k", prompt_cache_options: { mode: "implicit" },
    prompt_cache_retention: "24h", reasoning_effort: "low", response_format: { type: "text" }, safety_identifier: "s", seed: 1, service_tier: "auto",
    stop: "x", store: false, stream: false, temperature: 1, tool_choice: "auto", tools: [{ type: "function", function: { name: "f" } }, { type: "custom", custom: { name: "c" } }],
    top_logprobs: 1, top_p: 1, user: "u", verbosity: "low", web_search_options: {}, some_new_field: { deep: [1, 2, { x: "__proto__" }] },
  }); // prettier-ignore
  assert.equal((await postChat(ingress, body)).status, 200);
  assert.equal(Buffer.from(ingress.adapters.attempts[0]!.open.body).toString(), body);
  assert.ok(ingress.adapters.attempts[0]!.open.fields.length > 100);
});

const HEADERS: [Record<string, string>, string][] = [
  [{ "x-signalbox-priority": "urgent" }, "x-signalbox-priority"],
  [{ "x-signalbox-ttft-ms": "fast" }, "x-signalbox-ttft-ms"],
  [{ "x-signalbox-deadline-ms": "-1" }, "x-signalbox-deadline-ms"],
  [{ "x-signalbox-max-cost-usd": "1e9" }, "x-signalbox-max-cost-usd"],
  [{ "x-signalbox-tags": "nonsense" }, "x-signalbox-tags"],
  [{ "x-signalbox-tags": `a=${"x".repeat(129)}` }, "x-signalbox-tags"],
  [{ "x-signalbox-tags": Array.from({ length: 17 }, (_, index) => `t${index}=v`).join(",") }, "x-signalbox-tags"],
  [{ "idempotency-key": "k".repeat(256) }, "idempotency-key"],
  [{ "x-signalbox-experiment": "whatever" }, "x-signalbox-experiment"],
];
for (const [headers, param] of HEADERS) {
  test(`${JSON.stringify(headers).slice(0, 60)} is refused naming the header`, async () => {
    assert.equal((await refusal(await postChat(ingress, chatBody(), { headers }), 400, "invalid_value")).error.param, param);
  });
}

test("labels from clients never split a response or put controls into a log line", async () => {
  const bad = ["a\u001b[31mb", "é", "a".repeat(200), "x y"];
  for (const id of bad) {
    const answer = await raw(
      Buffer.from(`GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: ${id}\r\n\r\n`, "latin1"),
    );
    assert.equal(answer.includes(id), false);
  }
  const model = "no\u00a0such‮model" + "y".repeat(200);
  ingress.policy.answer = () => {
    throw new SignalboxError("MODEL_UNKNOWN", "no such model");
  };
  await refusal(await postChat(ingress, chatBody({ model })), 404, "model_not_found");
  const fields = ingress.log.lines.find((line) => line.message === "request")!.fields;
  assert.ok((fields["model"] as string).length <= 64);
});

test("internal and hop-by-hop headers of a client change nothing upstream", async () => {
  const spied = await startIngress();
  try {
    spied.adapters.answers("alpha", ["x"]);
    await (
      await postChat(spied, chatBody(), {
        headers: { "x-signalbox-tenant": "root", "x-signalbox-backend": "beta", "x-forwarded-for": "1.2.3.4" },
      })
    ).text();
    assert.equal(spied.policy.requests[0]!.tenant, "default");
    assert.equal(spied.adapters.attempts[0]!.open.backend, "alpha");
    const open = JSON.stringify(spied.adapters.attempts[0]!.open, (_key, value: unknown) => (value instanceof Uint8Array ? "" : value));
    assert.equal(/root|1\.2\.3\.4/.test(open), false);
  } finally {
    await spied.stop();
  }
});

test("100-continue is given only to a body that will be read", async () => {
  const body = JSON.stringify(chatBody());
  const head = (length: number): string =>
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: ${length}\r\n\r\n`;
  const large = await raw(head(10_000_000));
  assert.equal(large.includes("100 Continue"), false);
  assert.match(large, /^HTTP\/1.1 413 /);
  assert.match(await raw(`${head(body.length)}${body}`), /^HTTP\/1.1 100 Continue\r\n/);
  assert.match(await raw(`POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: magic\r\n\r\n`), /^HTTP\/1.1 417 /);
});

test("a busy port is refused with the setting's name", async () => {
  const config = testConfig();
  const api = { ...config.server.api, listen: { host: "127.0.0.1", port: ingress.port } };
  await assert.rejects(startIngress({ config: testConfig({ server: { ...config.server, api } }) }), /server\.api\.listen/);
});

test("an answer may be as large as 1 MiB and arrive in pieces", async () => {
  const large = await startIngress();
  try {
    const content = "y".repeat(1024 * 1024);
    large.adapters.scripts.set("alpha", (attempt) => {
      const body = answerBody(content);
      for (let at = 0; at < body.length; at += 100_000) attempt.data(body.slice(at, at + 100_000));
      attempt.ok();
    });
    const answer = (await (await postChat(large, chatBody())).json()) as { choices: { message: { content: string } }[] };
    assert.equal(answer.choices[0]!.message.content.length, content.length);
  } finally {
    await large.stop();
  }
});
