import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DecideRequestSchema, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { FakeClock } from "#libs/clock/fake.ts";
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
