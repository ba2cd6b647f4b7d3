import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { decodeChunks, payloads, readAnswer } from "./testkit.ts";

const SEED = 20_261_122;

/** Streams that differ in flavour and content; each is cut and damaged many times. */
const BASES = 250;

/** Cut or damaged streams in all. */
const STREAMS = 100_000;

const WORDS = [
  "Hello",
  " world",
  "ä",
  "😀",
  '"',
  "\\",
  '{"usage":{}}',
  "\n",
  " [DONE]",
  "finish_reason",
  '":"',
  "",
  " the",
  " quick",
  "\u2028",
];

interface Base {
  readonly bytes: Buffer;
  /** Offset behind the last finish chunk's JSON: what is cut before it is truncated. */
  readonly finishEnd: number;
  /** What the decoder makes of it in one piece. */
  readonly text: string;
  readonly usageEvent: string;
}

type Flavour = (events: Record<string, unknown>[], usage: object) => Record<string, unknown>[];

/** Where and how providers put usage, padding and identity. */
const FLAVOURS: readonly Flavour[] = [
  (events, usage) => [...events.map((event) => ({ ...event, usage: null })), { ...events.at(-1)!, choices: [], usage }],
  (events, usage) => [...events.slice(0, -1), { ...events.at(-1)!, usage }],
  (events, usage) => [...events.slice(0, -1), { ...events.at(-1)!, x_groq: { id: "r", usage } }],
  (events, usage) => [...events, { ...events.at(-1)!, usage }],
  (events, usage) => [
    ...events.map((event, index) => ({ ...event, obfuscation: "q".repeat(index % 7) })),
    { ...events.at(-1)!, choices: [], usage },
  ],
  (events, usage) => events.map((event, index) => ({ choices: event["choices"], ...event, usage: { ...usage, completion_tokens: index } })),
  (events) => events.map((event) => ({ ...event, id: "", created: 0 })),
  (events) => [{ choices: [], id: "", object: "", created: 0, prompt_filter_results: [] }, ...events],
];

function deltas(random: SeededRandom): object[] {
  const list: object[] = [{ role: "assistant", content: "" }];
  const member = ["content", "reasoning_content", "reasoning"][random.int(3)]!;
  for (let count = random.int(3); count > 0; count--) list.push({ [member]: WORDS[random.int(WORDS.length)] });
  for (let count = 1 + random.int(3); count > 0; count--) list.push({ content: WORDS[random.int(WORDS.length)] });
  for (let call = 0, calls = random.int(2); call < calls; call++) {
    list.push({ tool_calls: [{ index: call, id: `call_${call}`, type: "function", function: { name: "f", arguments: "" } }] });
    for (let count = random.int(4); count > 0; count--)
      list.push({ tool_calls: [{ index: call, function: { arguments: WORDS[random.int(WORDS.length)] } }] });
  }
  return list;
}

function baseOf(random: SeededRandom): Base {
  const chunk = (delta: object, finish: string | null): Record<string, unknown> => ({
    id: "chatcmpl-7",
    object: "chat.completion.chunk",
    created: 1_700_000_000,
    model: "m",
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
  });
  const list = [...deltas(random).map((delta) => chunk(delta, null)), chunk({}, "stop")];
  const usage = { prompt_tokens: 10 + random.int(90), completion_tokens: random.int(50), total_tokens: 0 };
  usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
  const events = FLAVOURS[random.int(FLAVOURS.length)]!(list, usage);
  const lineEnd = ["\n", "\n", "\n", "\r\n", "\r"][random.int(5)]!;
  const comment = random.int(3) === 0 ? `: ping${lineEnd}${lineEnd}` : "";
  const lines = events.map((event) => `${comment}data: ${JSON.stringify(event)}${lineEnd}${lineEnd}`);
  const finish = events.findIndex((event) => JSON.stringify(event).includes('"finish_reason":"stop"'));
  const bytes = Buffer.from(`${lines.join("")}data: [DONE]${lineEnd}${lineEnd}`);
  const finishEnd = Buffer.byteLength(lines.slice(0, finish + 1).join("")) - 2 * lineEnd.length;
  const whole = decodeChunks([bytes]);
  assert.equal(whole.end?.error, undefined);
  const expected = readAnswer(events.map((event) => JSON.stringify(event)));
  assert.deepEqual([...readAnswer(payloads(whole.text)).choices], [...expected.choices]);
  return { bytes, finishEnd, text: whole.text, usageEvent: Buffer.from(whole.end?.usageEvent ?? []).toString() };
}

function cutUp(random: SeededRandom, bytes: Buffer): Buffer[] {
  const cuts = Array.from({ length: 1 + random.int(6) }, () => random.int(bytes.length + 1)).toSorted((a, b) => a - b);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    pieces.push(bytes.subarray(from, cut));
    from = cut;
  }
  return pieces;
}

/** Flips, drops, repeats or inserts bytes. */
function damage(random: SeededRandom, bytes: Buffer): Buffer {
  const at = random.int(bytes.length);
  const length = 1 + random.int(40);
  switch (random.int(4)) {
    case 0: {
      const copy = Buffer.from(bytes);
      for (let flips = 1 + random.int(8); flips > 0; flips--) copy[random.int(copy.length)] = random.int(256);
      return copy;
    }
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    default:
      return Buffer.concat([bytes.subarray(0, at), random.bytes(Buffer.alloc(length)), bytes.subarray(at)]);
  }
}

test(`${STREAMS} split, cut and damaged streams: none crashes, none that is whole reads differently, none that is cut passes`, () => {
  const random = new SeededRandom(SEED);
  const bases = Array.from({ length: BASES }, () => baseOf(random));
  const counts = { split: 0, cut: 0, damaged: 0, refused: 0 };
  for (let stream = 0; stream < STREAMS; stream++) {
    const base = bases[random.int(BASES)]!;
    const kind = random.int(4);
    if (kind <= 1) {
      const decoded = decodeChunks(cutUp(random, base.bytes));
      assert.equal(decoded.end?.error, undefined);
      assert.equal(decoded.text, base.text);
      assert.equal(Buffer.from(decoded.end?.usageEvent ?? []).toString(), base.usageEvent);
      counts.split++;
    } else if (kind === 2) {
      const decoded = decodeChunks(cutUp(random, base.bytes.subarray(0, random.int(base.finishEnd))));
      assert.equal(decoded.end?.error?.reason, "UPSTREAM_PROTOCOL");
      assert.ok(base.text.startsWith(decoded.text), "what was put out before is the beginning of the whole");
      counts.cut++;
    } else {
      const decoded = decodeChunks(cutUp(random, damage(random, base.bytes)));
      assert.equal(decoded.ends, 1);
      counts.damaged++;
      if (decoded.end?.error !== undefined) counts.refused++;
    }
  }
  console.log(`seed ${SEED}: ${JSON.stringify(counts)}`);
});
