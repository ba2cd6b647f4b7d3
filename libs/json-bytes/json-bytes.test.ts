import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { FIELD_STRIDE, fieldValue, findField, scanTopLevel, spliceTopLevel } from "./index.ts";

const ROUNDS = 20_000;

const bytesOf = (text: string): Buffer => Buffer.from(text);

const STRINGS = [
  "",
  "a",
  "ä€😀",
  'with "quotes"',
  "back\\slash",
  "\\\\",
  '\\"',
  "\n\t\u0000",
  "x".repeat(60),
  `${"y".repeat(40)}"\\`,
  "{[,:]}",
];

function randomValue(random: SeededRandom, depth: number): unknown {
  switch (random.int(depth > 3 ? 5 : 7)) {
    case 0:
      return null;
    case 1:
      return random.int(2) === 0;
    case 2:
      return [0, -1.5, 1e21, 12345, 1e-7][random.int(5)];
    case 3:
    case 4:
      return STRINGS[random.int(STRINGS.length)]!;
    case 5:
      return Array.from({ length: random.int(4) }, () => randomValue(random, depth + 1));
    default:
      return Object.fromEntries(Array.from({ length: random.int(4) }, (_, index) => [`k${index}"\\`, randomValue(random, depth + 1)]));
  }
}

function space(random: SeededRandom): string {
  return ["", "", "", " ", "\n", "\r\n\t", "  "][random.int(7)]!;
}

function randomText(random: SeededRandom): { text: string; value: Record<string, unknown> } {
  const value: Record<string, unknown> = {};
  const members: string[] = [];
  const count = random.int(8);
  for (let index = 0; index < count; index++) {
    const key = ["model", "messages", "stream", "max_tokens", "käse", "", "n", "k"][index]!;
    value[key] = randomValue(random, 0);
    const indent = random.int(3) === 0 ? 1 : undefined;
    members.push(
      `${space(random)}${JSON.stringify(key)}${space(random)}:${space(random)}${JSON.stringify(value[key], null, indent)}${space(random)}`,
    );
  }
  const inside = members.length > 0 ? members.join(",") : space(random);
  return { text: `${space(random)}{${inside}}${space(random)}`, value };
}

test(`extents agree with JSON.parse on ${ROUNDS} random objects`, () => {
  const random = new SeededRandom(1);
  for (let round = 0; round < ROUNDS; round++) {
    const { text, value } = randomText(random);
    const bytes = bytesOf(text);
    const fields = scanTopLevel(bytes);
    assert.ok(fields, text);
    const seen: Record<string, unknown> = {};
    for (let at = 0; at < fields.length; at += FIELD_STRIDE) {
      seen[bytes.toString("utf8", fields[at]!, fields[at + 1]!)] = JSON.parse(bytes.toString("utf8", fields[at + 2]!, fields[at + 3]!));
    }
    assert.deepEqual(seen, value);
  }
});

test(`splices agree with editing the parsed object on ${ROUNDS} random objects`, () => {
  const random = new SeededRandom(2);
  const names = ["model", "messages", "stream", "max_tokens", "n", "k", "added", "also"];
  for (let round = 0; round < ROUNDS; round++) {
    const { text, value } = randomText(random);
    const bytes = bytesOf(text);
    const expected = { ...value };
    const edits = new Map<string, Uint8Array | null>();
    for (const name of names) {
      const choice = random.int(4);
      if (choice === 0) {
        edits.set(name, null);
        delete expected[name];
      } else if (choice === 1) {
        const replacement = randomValue(random, 2);
        edits.set(name, bytesOf(JSON.stringify(replacement)));
        expected[name] = replacement;
      }
    }
    const spliced = spliceTopLevel(bytes, scanTopLevel(bytes)!, edits);
    assert.deepEqual(JSON.parse(Buffer.from(spliced).toString()), expected, text);
  }
});

test("corrupted bytes never crash the scan and never give extents out of bounds", () => {
  const random = new SeededRandom(3);
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = bytesOf(randomText(random).text);
    for (let flips = random.int(4); flips >= 0; flips--) if (bytes.length > 0) bytes[random.int(bytes.length)] = random.int(256);
    const cut = bytes.subarray(0, random.int(bytes.length + 1));
    for (const candidate of [bytes, cut]) {
      const fields = scanTopLevel(candidate);
      let last = 0;
      for (const offset of fields ?? []) {
        assert.ok(offset >= last && offset <= candidate.length);
        last = offset;
      }
    }
  }
});

test("what is no plain object is not scanned", () => {
  for (const text of ["", " ", "[]", "1", '"x"', "{", '{"a"', '{"a":', '{"a":1', '{"a":1,}', '{"a":1}}', '{"a":1} x', "\ufeff{}"]) {
    assert.equal(scanTopLevel(bytesOf(text)), undefined, text);
  }
});

test("a repeated key or a key with an escape is left to a real parser", () => {
  assert.equal(scanTopLevel(bytesOf('{"model":1,"x":2,"model":3}')), undefined);
  assert.equal(scanTopLevel(bytesOf('{"mo\\u0064el":1}')), undefined);
});

test("a member is found by its whole name only", () => {
  const bytes = bytesOf('{"models":1,"mode":2,"model":{"model":3}}');
  const fields = scanTopLevel(bytes)!;
  assert.equal(findField(bytes, fields, "model"), 2 * FIELD_STRIDE);
  assert.equal(findField(bytes, fields, "mod"), -1);
  assert.equal(Buffer.from(fieldValue(bytes, fields, "model")!).toString(), '{"model":3}');
  assert.equal(fieldValue(bytes, fields, "absent"), undefined);
});

test("what is not edited stays byte for byte", () => {
  const bytes = bytesOf('{ "a" : 1.0e5 ,\n"model":"x", "z": [1,  2] }');
  const spliced = spliceTopLevel(bytes, scanTopLevel(bytes)!, new Map([["model", bytesOf('"y"')]]));
  assert.equal(Buffer.from(spliced).toString(), '{ "a" : 1.0e5 ,\n"model":"y", "z": [1,  2] }');
});
