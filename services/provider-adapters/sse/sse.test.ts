import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { createSseReader, SseFramer } from "./index.ts";

type Read = readonly (readonly [name: string, data: string])[];

function read(bytes: Uint8Array, cuts: readonly number[], maxBytes = 1 << 20): Read {
  const events: [string, string][] = [];
  const reader = createSseReader(maxBytes, {
    event: (name, data) => void events.push([name, data]),
    overflow: () => void events.push(["overflow", ""]),
  });
  let from = 0;
  for (const cut of cuts) {
    reader.push(bytes.subarray(from, cut));
    from = cut;
  }
  reader.push(bytes.subarray(from));
  return events;
}

/** The same by the letter of the specification: decode all, split lines by the standard's rule, run its algorithm. */
function reference(bytes: Uint8Array): Read {
  const lines = new TextDecoder().decode(bytes).split(/\r\n|\n|\r/);
  const events: [string, string][] = [];
  let name = "";
  let data = "";
  let any = false;
  for (const line of lines.slice(0, -1)) {
    if (line === "") {
      if (any) events.push([name, data.slice(0, -1)]);
      name = "";
      data = "";
      any = false;
      continue;
    }
    const [, field, value = ""] = /^([^:]*)(?::\u0020?(.*))?$/s.exec(line)!;
    if (field === "event") name = value;
    if (field === "data") {
      data += `${value}\n`;
      any = true;
    }
  }
  return events;
}

const LINES = [
  "data: {}",
  "data:x",
  "data",
  "data:",
  "data:  two spaces",
  "datax: no",
  "event: error",
  "event:",
  "events: no",
  ": comment",
  ":",
  "id: 1",
  "retry: 5",
  "data: ä€😀",
  "data: a: b",
  "",
  "",
  "",
  "data: [DONE]",
  " data: x",
];

function randomStream(random: SeededRandom): Buffer {
  let text = random.int(4) === 0 ? "\ufeff" : "";
  for (let count = random.int(14); count >= 0; count--) text += LINES[random.int(LINES.length)]! + ["\n", "\r\n", "\r"][random.int(3)]!;
  return Buffer.from(text);
}

function randomCuts(random: SeededRandom, length: number): number[] {
  return Array.from({ length: random.int(6) }, () => random.int(length + 1)).toSorted((a, b) => a - b);
}

test("10,000 random streams, cut anywhere, read as the specification's algorithm reads them", () => {
  const random = new SeededRandom(7);
  for (let round = 0; round < 10_000; round++) {
    const bytes = randomStream(random);
    const cuts = randomCuts(random, bytes.length);
    // A carriage return at the very end may be half of a line end; the reference cannot know either.
    assert.deepEqual(read(bytes, cuts), reference(bytes), JSON.stringify(bytes.toString()));
  }
});

test("every way to cut a stream in two gives the same events", () => {
  const bytes = Buffer.from("\ufeff: hi\r\n\r\nevent: e\r\ndata: ä\r\ndata: 😀\r\n\r\rdata: z\n\n");
  const whole = read(bytes, []);
  assert.deepEqual(whole, [
    ["e", "ä\n😀"],
    ["", "z"],
  ]);
  for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(read(bytes, [cut]), whole);
  assert.deepEqual(
    read(
      bytes,
      Array.from(bytes, (_, index) => index),
    ),
    whole,
  );
});

test("an endless line ends at the limit, once, and in linear memory", () => {
  let overflows = 0;
  let blocks = 0;
  const framer = new SseFramer(10_000, { block: () => void blocks++, overflow: () => void overflows++ });
  for (let piece = 0; piece < 100; piece++) framer.push(Buffer.alloc(1000, "x"));
  framer.push(Buffer.from("\n\ndata: late\n\n"));
  assert.deepEqual([overflows, blocks], [1, 0]);
});

test("a chunk that ends with an event is passed on uncopied", () => {
  const blocks: Buffer[] = [];
  const framer = new SseFramer(1000, { block: (bytes) => void blocks.push(bytes), overflow: assert.fail });
  const chunk = Buffer.from("data: 1\n\ndata: 2\n\n");
  framer.push(chunk);
  assert.equal(blocks[0]!.buffer, chunk.buffer);
  assert.equal(blocks[0]!.byteOffset, chunk.byteOffset);
  assert.equal(blocks.length, 1);
});

test("an event without its closing line is read at the end", () => {
  const events: string[] = [];
  const reader = createSseReader(1000, { event: (_, data) => void events.push(data), overflow: assert.fail });
  reader.push(Buffer.from("data: 1\n\ndata: [DONE]"));
  assert.deepEqual(events, ["1"]);
  reader.finish();
  reader.finish();
  assert.deepEqual(events, ["1", "[DONE]"]);
});
