import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { isReason } from "#libs/errors/index.ts";
import { anthropicCodec } from "./index.ts";
import { contextOf, decode, recordedBodies, recordedFolder, recordedStreams, sse } from "./testing.ts";

const STREAMS = 30_000;
const BODIES = 3_000;
const SEED = Number(process.env["SIGNALBOX_SEED"] ?? 20_261_122);

/** Longest stream that is damaged: long ones add time, not cases. */
const STREAM_MAX_BYTES = 4096;

const MINIMAL = [
  '{"type":"message_start","message":{"id":"m","model":"c","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}',
  '{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}',
  '{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}',
  '{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}',
  '{"type":"content_block_stop","index":0}',
  '{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}',
  '{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"ü\\":\\"😀\\"}"}}',
  '{"type":"content_block_stop","index":1}',
  '{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}',
  '{"type":"message_stop"}',
];

/** Values that JSON allows where the API would never put them. */
const ODD = ["null", "-1", "1e999", '""', "[]", "{}", "true", '"\\ud800"', "[[[[]]]]", '{"type":"text"}', "99999999999999999999"];

/** Damages what one answer's bytes say, or how they arrive. */
function damage(bytes: Buffer, random: SeededRandom): Buffer {
  const copy = Buffer.from(bytes);
  const at = random.int(copy.length);
  switch (random.int(8)) {
    case 0:
      return copy.subarray(0, at);
    case 1:
      copy[at] = random.int(256);
      return copy;
    case 2: {
      const end = Math.min(copy.length, at + random.int(64));
      return Buffer.concat([copy.subarray(0, at), copy.subarray(end)]);
    }
    case 3:
      return Buffer.concat([copy.subarray(0, at), random.bytes(Buffer.alloc(random.int(16))), copy.subarray(at)]);
    case 4:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(random.int(copy.length))]);
    case 5:
      return oddValue(copy, random);
    case 6:
      return shuffledEvents(copy, random);
    default:
      return Buffer.from(copy.toString("latin1").replaceAll("\n", random.int(2) === 0 ? "\r\n" : "\r"), "latin1");
  }
}

/** Puts another value in the place of one member's. */
function oddValue(bytes: Buffer, random: SeededRandom): Buffer {
  const text = bytes.toString("utf8");
  const members = [...text.matchAll(/":("[^"\\]*"|\d+|null)/g)];
  const member = members[random.int(members.length)];
  if (member === undefined) return bytes;
  return Buffer.from(`${text.slice(0, member.index)}":${ODD[random.int(ODD.length)]}${text.slice(member.index + member[0].length)}`);
}

/** Drops, doubles or swaps whole events. */
function shuffledEvents(bytes: Buffer, random: SeededRandom): Buffer {
  const events = bytes.toString("utf8").split("\n\n");
  for (let change = 0; change <= random.int(4); change++) {
    const from = random.int(events.length);
    const [event] = events.splice(from, 1);
    for (let copies = random.int(3); copies > 0; copies--) events.splice(random.int(events.length + 1), 0, event!);
  }
  return Buffer.from(events.join("\n\n"));
}

function pieces(bytes: Buffer, random: SeededRandom): Buffer[] {
  const list: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + random.int(random.int(4) === 0 ? 8 : 1024);
    list.push(bytes.subarray(at, end));
    at = end;
  }
  return list;
}

function corpus(): Buffer[] {
  const folder = recordedFolder();
  const recorded = folder === undefined ? [] : recordedStreams(folder).map((stream) => sse(stream.events));
  return [sse(MINIMAL), ...recorded].filter((bytes) => bytes.length <= STREAM_MAX_BYTES);
}

test(`${STREAMS} damaged streams neither crash the decoder nor end without a verdict`, () => {
  const random = new SeededRandom(SEED);
  const streams = corpus();
  let failed = 0;
  for (let round = 0; round < STREAMS; round++) {
    let bytes = streams[random.int(streams.length)]!;
    for (let times = random.int(3); times >= 0; times--) bytes = bytes.length === 0 ? bytes : damage(bytes, random);
    const label = `seed ${SEED}, round ${round}`;
    const { ends, chunks, decoder, contentEvents } = decode(pieces(bytes, random));
    assert.equal(ends.length, 1, label);
    const { error, usageEvent } = ends[0]!;
    const finishes = chunks.filter((chunk) => chunk.choices[0]!.finish_reason !== null).length;
    assert.equal(finishes, error === undefined ? 1 : 0, label);
    assert.equal(decoder.facts().contentEvents, contentEvents, label);
    if (error === undefined) continue;
    failed++;
    assert.ok(isReason(error.reason), label);
    assert.equal(usageEvent, undefined, label);
  }
  assert.ok(failed > STREAMS / 10 && failed < STREAMS, `${failed} failed`);
});

test(`${BODIES} damaged bodies do not crash the decoder`, () => {
  const random = new SeededRandom(SEED);
  const folder = recordedFolder();
  const minimal = Buffer.from('{"id":"m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":1}}');
  const bodies = [minimal, ...(folder === undefined ? [] : recordedBodies(folder).map((item) => item.body))].filter(
    (body) => body.length <= STREAM_MAX_BYTES,
  );
  for (let round = 0; round < BODIES; round++) {
    const bytes = damage(bodies[random.int(bodies.length)]!, random);
    const decoded = anthropicCodec.decodeBody(contextOf(), bytes);
    if (decoded.error === undefined) JSON.parse(Buffer.from(decoded.body).toString("utf8"));
    else assert.equal(decoded.body.length, 0);
    const mapped = anthropicCodec.mapError({ status: 400 + random.int(200), headers: { "retry-after": "x" }, body: bytes, nowMs: 0 });
    assert.ok(isReason(mapped.reason), `seed ${SEED}, round ${round}`);
  }
});
