import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { LoadPublishedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { Ballot, isAgreed, isPanic, mayEject } from "./agreement.ts";

function load(engine: string, sequence: bigint, open: readonly string[], epoch = 1) {
  return create(LoadPublishedSchema, { engine, epoch, sequence, backends: open.map((backend) => ({ backend, breakerOpen: true })) });
}

test("two engines agree; one alone does not, unless the prober says the same or there is no other engine", () => {
  assert.equal(isAgreed({ open: 2, engines: 5 }, true), true);
  assert.equal(isAgreed({ open: 1, engines: 2 }, true), false);
  assert.equal(isAgreed({ open: 1, engines: 2 }, undefined), false);
  assert.equal(isAgreed({ open: 1, engines: 2 }, false), true);
  assert.equal(isAgreed({ open: 1, engines: 1 }, true), true);
  assert.equal(isAgreed({ open: 0, engines: 3 }, false), false);
});

test("a message replaces the engine's earlier one, an older one is ignored, a restart forgets, silence loses the vote", () => {
  const ballot = new Ballot();
  ballot.receive(load("e1", 5n, ["a", "b"]), 0);
  ballot.receive(load("e1", 4n, []), 0);
  assert.deepEqual(ballot.on("a", 0), { open: 1, engines: 1 });
  ballot.receive(load("e1", 6n, ["b"]), 100);
  assert.deepEqual(ballot.on("a", 100), { open: 0, engines: 1 });
  ballot.receive(load("e1", 1n, [], 2), 200);
  assert.deepEqual(ballot.on("b", 200), { open: 0, engines: 1 });
  ballot.receive(load("e1", 9n, ["a"], 1), 300);
  assert.deepEqual(ballot.on("a", 300), { open: 0, engines: 1 });
  assert.deepEqual(ballot.on("a", 20_000), { open: 0, engines: 0 });
});

test("statistics eject at most half of a pool and never the last", () => {
  const pool = (...out: string[]) => ["a", "b", "c", "d"].map((backend) => ({ backend, out: out.includes(backend) }));
  assert.equal(mayEject(pool(), "a", 0.5), true);
  assert.equal(mayEject(pool("b"), "a", 0.5), true);
  assert.equal(mayEject(pool("b", "c"), "a", 0.5), false);
  assert.equal(mayEject([{ backend: "a", out: false }], "a", 1), false);
  assert.equal(mayEject(pool("b", "c", "d"), "a", 1), false);
  assert.equal(isPanic(pool("a", "b"), 0.5), false);
  assert.equal(isPanic(pool("a", "b", "c"), 0.5), true);
});
