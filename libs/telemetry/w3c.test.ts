import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "#libs/clock/fake.ts";
import { createIdSource, parseTraceparent, parseTracestate, startContext } from "./w3c.ts";

const GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

test("a legal traceparent is continued", () => {
  const context = startContext([GOOD], ["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], createIdSource(new SeededRandom(1)), 0);
  assert.deepEqual(context, {
    traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
    parentSpanId: "00f067aa0ba902b7",
    tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    sampled: true,
  });
});

test("illegal and duplicate traceparents start a new trace", () => {
  const bad = [
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    `${GOOD}-extra`,
    "garbage",
    "",
  ];
  for (const value of bad) assert.equal(parseTraceparent([value]), undefined, value);
  assert.equal(parseTraceparent([GOOD, GOOD]), undefined);
  assert.ok(parseTraceparent([`01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later`]), "a future version may be longer");
});

test("an illegal tracestate is dropped whole", () => {
  for (const value of [
    "a=1,a=2",
    "A=1",
    "a=",
    "a",
    "a=b=c",
    `a=${"x".repeat(600)}`,
    Array.from({ length: 33 }, (_, index) => `k${index}=v`).join(","),
  ])
    assert.equal(parseTracestate([value]), "", value.slice(0, 40));
  assert.equal(parseTracestate(["a=1 , b=2", "", "c@d=3"]), "a=1,b=2,c@d=3");
});

test("new traces are sampled by about the share asked for", () => {
  const draw = createIdSource(new SeededRandom(3));
  let kept = 0;
  for (let round = 0; round < 10_000; round++) if (startContext([], [], draw, 0.1).sampled) kept++;
  assert.ok(kept > 850 && kept < 1150, String(kept));
});
