import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { Continuation } from "./continuation.ts";
import { readChat } from "./openai/chat.ts";
import { Overlap } from "./overlap.ts";
import { isResumable, Resumption } from "./resume.ts";
import { candidate, testConfig } from "./testing.ts";
import { Transcript } from "./transcript.ts";
import { SignalboxError } from "#libs/errors/index.ts";

function event(delta: Record<string, unknown>, more: Record<string, unknown> = {}, identity = "a"): Buffer {
  const choice = { index: 0, delta, finish_reason: null, ...more };
  return Buffer.from(`data: ${JSON.stringify({ id: identity, created: 1, model: `m-${identity}`, choices: [choice] })}\n\n`);
}

function takeAll(overlap: Overlap, pieces: readonly string[]): string {
  return pieces.map((piece) => overlap.take(piece)).join("") + overlap.rest();
}

test("a continuation that repeats the end of the text, or all of it, is cut to what is new", () => {
  const delivered = "The quick brown fox jumps over the lazy dog and runs away";
  const rest = " into the forest, where it sleeps.";
  for (const from of [0, 10, delivered.length - 16, delivered.length]) {
    const pieces = (delivered.slice(from) + rest).match(/.{1,5}/gs)!;
    assert.equal(takeAll(new Overlap(delivered), pieces), rest, `repeated from ${from}`);
  }
});

test("short likeness at the seam is the answer's own", () => {
  assert.equal(takeAll(new Overlap("one two three two three"), [" two", " three", " four"]), " two three four");
  assert.equal(takeAll(new Overlap("Ha"), ["Ha", "!"]), "Ha!");
});

test("text is held back no longer than it could be a repetition, and never lost", () => {
  const overlap = new Overlap("alpha beta gamma delta epsilon");
  assert.equal(overlap.take("beta gam"), "");
  assert.equal(overlap.take("bit"), "beta gambit");
  assert.equal(overlap.take(" goes on"), " goes on");
});

test("whatever the pieces, a text without repetition comes out as it went in", () => {
  const random = new SeededRandom(4);
  for (let round = 0; round < 200; round++) {
    const word = (): string => String.fromCharCode(97 + random.int(26)).repeat(1 + random.int(3));
    const delivered = Array.from({ length: 12 }, word).join(" ");
    const text = `#${Array.from({ length: 12 }, word).join(" ")}`;
    const pieces: string[] = [];
    for (let at = 0; at < text.length;) {
      const length = 1 + random.int(6);
      pieces.push(text.slice(at, at + length));
      at += length;
    }
    assert.equal(takeAll(new Overlap(delivered), pieces), text);
  }
});

test("a transcript gives the text of plain answers, whole characters, and knows their end", () => {
  const transcript = new Transcript();
  for (const delta of [{ role: "assistant", content: "" }, { content: "Stra" }, { content: "ße 日本 👩‍🚀" }]) transcript.add(event(delta));
  transcript.add(Buffer.from(": keep-alive\n\n"));
  assert.equal(transcript.text(), "Straße 日本 👩‍🚀");
  assert.deepEqual(transcript.identity, { id: "a", created: 1, model: "m-a" });
  assert.equal(transcript.finished, false);
  transcript.add(event({}, { finish_reason: "stop" }));
  assert.equal(transcript.finished, true);
});

test("tool calls, reasoning, refusals, log probabilities and other choices make an answer that is not continued", () => {
  const kinds: [Record<string, unknown>, Record<string, unknown>][] = [
    [{ tool_calls: [{ index: 0, id: "x" }] }, {}],
    [{ reasoning_content: "hm" }, {}],
    [{ refusal: "no" }, {}],
    [{ content: "a" }, { logprobs: { content: [] } }],
    [{ content: "a" }, { index: 1 }],
  ];
  for (const [delta, more] of kinds) {
    const transcript = new Transcript();
    transcript.add(event({ content: "so " }));
    transcript.add(event(delta, more));
    assert.equal(transcript.text(), undefined, JSON.stringify(delta));
  }
});

test("a continuation carries the first answer's identity, no second role and the whole answer's usage", () => {
  const continuation = new Continuation({ id: "a", created: 1, model: "m-a" }, "");
  const out = [
    continuation.pass(event({ role: "assistant", content: "" }, {}, "b")),
    continuation.pass(event({ content: "more" }, {}, "b")),
    continuation.pass(event({}, { finish_reason: "stop" }, "b")),
  ].map(String);
  assert.equal(out[0], "");
  assert.deepEqual(JSON.parse(out[1]!.slice(6)), {
    id: "a",
    created: 1,
    model: "m-a",
    choices: [{ index: 0, delta: { content: "more" }, finish_reason: null }],
  });
  assert.equal(JSON.parse(out[2]!.slice(6)).choices[0].finish_reason, "stop");
  const usage = { prompt_tokens: 17, completion_tokens: 20, total_tokens: 37 };
  const told = continuation.usageEvent(Buffer.from(`data: ${JSON.stringify({ id: "b", choices: [], usage })}\n\n`), 7);
  assert.deepEqual(JSON.parse(String(told).slice(6)).usage, { prompt_tokens: 10, completion_tokens: 27, total_tokens: 37 });
});

test("what the client has whole is complete although its backend broke, and only able candidates go on", () => {
  const error = new SignalboxError("STREAM_INTERRUPTED", "cut");
  const whole = new Resumption();
  whole.pass(event({ content: "all" }, { finish_reason: "stop" }));
  const attempt = { candidate: candidate("alpha"), contentEvents: 1 };
  assert.equal(whole.broke(attempt, error), "complete");
  const part = new Resumption();
  part.pass(event({ content: "some" }));
  assert.equal(part.broke(attempt, error), "resume");
  assert.deepEqual(part.plan, { prefix: "some", tokens: 1 });
  assert.deepEqual(part.able([candidate("alpha"), candidate("beta")], testConfig()), []);
});

test("only streams of plain text are resumable", () => {
  const body = { model: "chat", messages: [{ role: "user", content: "x" }], stream: true };
  assert.equal(isResumable(readChat(body)), true);
  const others = [
    { stream: false },
    { tools: [{ type: "function", function: { name: "f" } }] },
    { response_format: { type: "json_object" } },
    { n: 2 },
    { logprobs: true },
    { messages: [...body.messages, { role: "assistant", content: "So" }] },
  ];
  for (const other of others) assert.equal(isResumable(readChat({ ...body, ...other })), false, JSON.stringify(other));
});
