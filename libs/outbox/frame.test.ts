import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { crc32c } from "./crc32c.ts";
import { FRAME_HEADER_BYTES, scanFrames, sealFrame } from "./frame.ts";

function framesOf(payloads: readonly string[], firstSequence = 1): Buffer {
  return Buffer.concat(
    payloads.map((payload, index) => {
      const frame = Buffer.alloc(FRAME_HEADER_BYTES + Buffer.byteLength(payload));
      frame.write(payload, FRAME_HEADER_BYTES);
      sealFrame(frame, 0, Buffer.byteLength(payload), firstSequence + index);
      return frame;
    }),
  );
}

function scan(data: Buffer): { readonly payloads: string[]; readonly kinds: string[] } {
  const payloads: string[] = [];
  const damages = scanFrames(data, 0, 0, (_sequence, payload) => void payloads.push(Buffer.from(payload).toString()));
  return { payloads, kinds: damages.map((damage) => damage.kind) };
}

test("the checksum is CRC32C", () => {
  assert.equal(crc32c(Buffer.from("123456789"), 0, 9), 0xe3069283);
  assert.equal(crc32c(Buffer.alloc(32), 0, 32), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(32, 0xff), 0, 32), 0x62a8ab43);
});

test("any single flipped bit, header included, is found and put right", () => {
  const payloads = ["first record", "second, somewhat longer record", "third"];
  const clean = framesOf(payloads, 7);
  for (let bit = 0; bit < clean.length * 8; bit++) {
    const data = Buffer.from(clean);
    data[bit >> 3] = data[bit >> 3]! ^ (1 << (bit & 7));
    assert.deepEqual(scan(data), { payloads, kinds: ["repaired"] }, `bit ${bit}`);
  }
});

test("damage beyond one bit is reported and never read as a record", () => {
  const payloads = ["first record", "second, somewhat longer record", "third record", "fourth"];
  const clean = framesOf(payloads);
  fc.assert(
    fc.property(fc.nat(clean.length - 9), fc.uint8Array({ minLength: 2, maxLength: 8 }), (at, noise) => {
      const data = Buffer.from(clean);
      data.set(noise, at);
      fc.pre(!data.equals(clean));
      const read = scan(data);
      assert.ok(read.kinds.length > 0);
      for (const payload of read.payloads) assert.ok(payloads.includes(payload));
      assert.ok(read.payloads.length >= 2, "records that were not touched are still there");
    }),
    { numRuns: 2_000 },
  );
});

test("an unfinished end is torn, not lost", () => {
  const clean = framesOf(["first", "second"]);
  for (let cut = FRAME_HEADER_BYTES + 5 + 1; cut < clean.length; cut++) {
    assert.deepEqual(scan(clean.subarray(0, cut)), { payloads: ["first"], kinds: ["torn"] }, `cut at ${cut}`);
  }
});
