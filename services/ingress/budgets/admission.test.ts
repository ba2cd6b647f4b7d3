import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DecideRequestSchema, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { FakeClock, SeededRandom } from "#libs/clock/fake.ts";
import { createConfigSource } from "#libs/config/index.ts";
import { compilePriceBook } from "#libs/money/index.ts";
import { Catalog } from "../catalog.ts";
import type { Intake } from "../intake.ts";
import { testConfig, testPriceBook } from "../testing.ts";
import { Admission, type AdmissionDeps } from "./admission.ts";

function intakeOf(operation: Operation): Intake {
  const decide = create(DecideRequestSchema, { model: "chat", operation, inputTokens: 1_000 });
  return { decide, size: { bytes: 1_000, mediaTokens: 0 }, choices: 1 } as unknown as Intake;
}

test("a hard budget reserved 8,192 output tokens for embeddings, which have none", () => {
  const config = createConfigSource(testConfig());
  const deps = {
    config,
    clock: new FakeClock(),
    prices: { index: compilePriceBook(testPriceBook()), loaded: true },
    catalog: () => new Catalog(config.current),
  };
  const admission = new Admission(deps as unknown as AdmissionDeps);
  const chat = admission.boundOf(intakeOf(Operation.CHAT));
  const embeddings = admission.boundOf(intakeOf(Operation.EMBEDDINGS));
  // 1,000 bytes and the frame at 1 nano-USD a token; an answer's tokens cost 2.
  assert.equal(embeddings, 1_064n);
  assert.ok(chat >= embeddings + 2n * 8_192n, `${chat}`);
});

/** The door of one tenant with rates, over a clock that stands still. */
function door(
  limits: { rpm?: number; tpm?: number; concurrency?: number },
  holders = 1,
): {
  readonly clock: FakeClock;
  readonly admission: Admission;
  /** Asks for so many tokens: the ms to wait, 0 when let in. */
  readonly ask: (tokens: number) => number;
  readonly leave: (tokens: number) => void;
  readonly header: (name: string) => number;
} {
  const base = testConfig();
  const tenant = {
    name: "acme",
    allowedModels: undefined,
    budgets: [],
    limits: { rpm: undefined, tpm: undefined, concurrency: undefined, ...limits },
  };
  const config = createConfigSource({ ...base, tenants: new Map([["acme", { ...base.tenants.get("default"), ...tenant } as never]]) });
  const clock = new FakeClock();
  const holder = { holders, specsOf: () => [], slice: () => undefined };
  const deps = {
    config,
    clock,
    holder,
    prices: { index: compilePriceBook(testPriceBook()), loaded: true },
    catalog: () => new Catalog(config.current),
  };
  const admission = new Admission(deps as unknown as AdmissionDeps);
  const inside: string[] = [];
  let asked = 0;
  return {
    clock,
    admission,
    ask: (tokens) => {
      const decisionId = `d${asked++}`;
      const decide = create(DecideRequestSchema, { model: "chat", tenant: "acme", decisionId, inputTokens: tokens });
      let waitMs = -1;
      admission.admit({ decide, size: { bytes: 1, mediaTokens: 0 }, choices: 1 } as unknown as Intake, (error) => {
        waitMs = error === undefined ? 0 : (error.retryAfterMs ?? Number.NaN);
      });
      if (waitMs === 0) inside.push(decisionId);
      return waitMs;
    },
    leave: (tokens) => {
      const id = inside.shift()!;
      admission.allowances.get(id)!.begin("a", 0n);
      admission.allowances.get(id)!.end("a", 0n, tokens);
      admission.close(id);
    },
    header: (name) => Number.parseInt(admission.headers("acme").find(([key]) => key === `x-ratelimit-${name}`)![1], 10),
  };
}

test("x-ratelimit headers: what is said to remain is let in, one more is not, and the waits are exact", async () => {
  const random = new SeededRandom(17);
  for (const [rpm, holders] of [
    [60, 1],
    [7, 1],
    [600, 3],
    [1, 1],
  ] as const) {
    const { clock, ask, header } = door({ rpm }, holders);
    assert.equal(ask(1), 0);
    for (let round = 0; round < 60; round++) {
      await clock.advanceAsync(random.int(20_000));
      assert.equal(header("limit-requests"), rpm);
      const remaining = header("remaining-requests");
      assert.ok(remaining <= rpm / holders);
      if (random.next() < 0.5) continue;
      for (let number = 0; number < remaining; number++) assert.equal(ask(1), 0, `${number} of ${remaining}`);
      const waitMs = ask(1);
      assert.ok(waitMs > 0, "one more");
      await clock.advanceAsync(waitMs - 1);
      assert.ok(ask(1) > 0, "a millisecond early");
      await clock.advanceAsync(1);
      assert.equal(ask(1), 0, "in time");
      const resetMs = header("reset-requests");
      await clock.advanceAsync(resetMs);
      assert.equal(header("remaining-requests"), Math.max(1, Math.floor(rpm / holders)));
      assert.equal(header("reset-requests"), 0);
    }
  }
});

test("x-ratelimit headers: tokens asked for and not used come back, those used on top are taken", async () => {
  const { clock, ask, leave, header } = door({ tpm: 10_000 });
  assert.equal(ask(4_000), 0);
  assert.equal(header("remaining-tokens"), 6_000);
  assert.ok(ask(6_001) > 0);
  assert.equal(header("remaining-tokens"), 6_000, "what is refused takes nothing");
  leave(1_000);
  assert.equal(header("remaining-tokens"), 9_000);
  assert.equal(ask(1_000), 0);
  leave(5_000);
  assert.equal(header("remaining-tokens"), 4_000);
  await clock.advanceAsync(header("reset-tokens"));
  assert.equal(header("remaining-tokens"), 10_000);
});

test("no more requests are inside at once than the tenant may have, and each that leaves makes room for one", () => {
  const { ask, leave, admission } = door({ concurrency: 3 });
  assert.deepEqual([ask(1), ask(1), ask(1)], [0, 0, 0]);
  assert.ok(ask(1) > 0);
  leave(1);
  assert.equal(ask(1), 0);
  assert.ok(ask(1) > 0);
  assert.deepEqual(admission.headers("acme"), [], "concurrency has no header");
});
