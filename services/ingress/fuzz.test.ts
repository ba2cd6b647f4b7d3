import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { Agent } from "undici";
import { chatBody, startIngress } from "./testing.ts";

const SEED = 20_261_122;
/** Bodies through the parser and the dialect in this process. */
const BODIES = 20_000;
/** Of these, one in so many also goes over a socket. */
const SOCKET_SHARE = 4;

const RICH = {
  ...chatBody({
    messages: [
      { role: "system", content: "be brief" },
      {
        role: "user",
        content: [
          { type: "text", text: "héllo 😀" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AA==", detail: "low" } },
        ],
      },
      { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", tool_call_id: "c1", content: "42" },
    ],
    tools: [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }],
    stream_options: null,
    metadata: { team: "a" },
    response_format: { type: "json_schema", json_schema: { name: "x", schema: {} } },
    temperature: 0.5,
    stop: ["a"],
    n: 2,
    logit_bias: { "50256": -100 },
  }),
};

const VALUES: readonly unknown[] = [
  null, true, false, 0, -1, 1.5, 1e308, "", "x", "\u0000", "__proto__", "constructor", [], {}, [[]], [null], { a: null }, { role: "user" },
  "x".repeat(5_000), Array.from({ length: 300 }, () => ({})), { __defineGetter__: 1, constructor: { prototype: { polluted: true } } },
]; // prettier-ignore

const SNIPPETS = [
  "1e999",
  "-0",
  '"\\ud800"',
  '{"__proto__":{"polluted":true}}',
  "[".repeat(3_000),
  "\u0000",
  "\ufeff",
  "NaN",
  "9".repeat(400),
  '"\\u0000"',
  "//",
  "{{",
  "}}",
  '","',
];

/** Changes one place of a value, deep or shallow. */
function mutate(value: unknown, random: SeededRandom): unknown {
  if (random.int(4) === 0 || typeof value !== "object" || value === null) return VALUES[random.int(VALUES.length)];
  if (Array.isArray(value)) {
    const copy: unknown[] = [...value];
    if (copy.length === 0 || random.int(5) === 0) copy.push(VALUES[random.int(VALUES.length)]);
    else {
      const at = random.int(copy.length);
      copy[at] = mutate(copy[at], random);
    }
    return copy;
  }
  const copy: Record<string, unknown> = { ...value };
  const keys = Object.keys(copy);
  const key = keys[random.int(keys.length)];
  const way = random.int(6);
  if (key === undefined || way === 0)
    copy[["model", "messages", "stream", "n", "tools", "constructor", "toString"][random.int(7)]!] = VALUES[random.int(VALUES.length)];
  else if (way === 1) delete copy[key];
  else copy[key] = mutate(copy[key], random);
  return copy;
}

function nextBody(random: SeededRandom): Buffer {
  let value: unknown = RICH;
  for (let times = random.int(3); times >= 0; times--) value = mutate(value, random);
  let text = JSON.stringify(value) ?? "";
  if (random.int(3) === 0) {
    const at = random.int(text.length + 1);
    text = text.slice(0, at) + SNIPPETS[random.int(SNIPPETS.length)]! + text.slice(at + random.int(5));
  }
  const bytes = Buffer.from(text);
  if (random.int(3) === 0)
    for (let flips = random.int(4); flips >= 0; flips--) if (bytes.length > 0) bytes[random.int(bytes.length)] = random.int(256);
  return random.int(12) === 0 ? bytes.subarray(0, random.int(bytes.length + 1)) : bytes;
}

const CONTENT_TYPES = ["application/json", "application/json\t; charset=utf-8", " application/json", "text/plain", "application/json;", ""];

test(`${BODIES} mutated bodies (seed ${SEED}) give no crash, no 5xx and only OpenAI-shaped errors`, async () => {
  const random = new SeededRandom(SEED);
  const ingress = await startIngress();
  const agent = new Agent({ connections: 8, pipelining: 1 });
  const { readChat } = await import("./openai/chat.ts");
  const { parseBody } = await import("./openai/parse.ts");
  const { analyse } = await import("./analyse.ts");
  const { Catalog } = await import("./catalog.ts");
  const { scanTopLevel } = await import("#libs/json-bytes/index.ts");
  const { TokenFactors } = await import("./tokens.ts");
  const { OPEN_CALLER } = await import("./auth.ts");
  const { NO_OPTIONS } = await import("./request-options.ts");
  const { testConfig } = await import("./testing.ts");
  const catalog = new Catalog(testConfig());
  const factors = new TokenFactors();
  let accepted = 0;
  try {
    ingress.adapters.answers("alpha", ["ok"]);
    const pending: Promise<void>[] = [];
    const send = async (body: Buffer, contentType: string): Promise<void> => {
      const headers = contentType === "" ? {} : { "content-type": contentType };
      const response = await agent.request({ origin: ingress.url, path: "/v1/chat/completions", method: "POST", headers, body });
      const text = await response.body.text();
      assert.ok(response.statusCode < 500, `${response.statusCode} for ${body.toString()}: ${text}`);
      if (response.statusCode === 200) return;
      const { error, request_id: id } = JSON.parse(text) as { error: Record<string, unknown>; request_id: string };
      assert.deepEqual(Object.keys(error), ["message", "type", "param", "code"]);
      assert.equal(typeof id, "string");
    };
    for (let index = 0; index < BODIES; index++) {
      const body = nextBody(random);
      if (index % SOCKET_SHARE === 0) {
        pending.push(send(body, CONTENT_TYPES[random.int(CONTENT_TYPES.length)]!));
        if (pending.length >= 64) await Promise.all(pending.splice(0));
      }
      try {
        const chat = readChat(parseBody(body));
        analyse({
          chat,
          body,
          fields: scanTopLevel(body),
          options: NO_OPTIONS,
          caller: OPEN_CALLER,
          catalog,
          factors,
          decisionId: "d",
          requestId: "r",
          explain: false,
        });
        accepted++;
      } catch (error) {
        assert.ok(error instanceof SignalboxError, `${String(error)} for ${body.toString()}`);
        assert.ok(error.httpStatus < 500);
      }
    }
    await Promise.all(pending);
  } finally {
    await agent.close();
    await ingress.stop();
  }
  assert.ok(accepted > BODIES / 20, `only ${accepted} bodies were accepted: the mutations are too wild to test anything behind the parser`);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
});
