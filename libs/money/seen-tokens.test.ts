import assert from "node:assert/strict";
import { test } from "node:test";
import { seenTokens, tokensIn } from "./index.ts";

test("small events are a token each; larger ones are counted by their bytes", () => {
  assert.equal(seenTokens(79, 392), 79);
  assert.equal(seenTokens(79, 100), 79);
  assert.equal(seenTokens(3, 600), 150);
  assert.equal(seenTokens(0, 41), 11);
  assert.equal(seenTokens(0, 0), 0);
});

test("an answer that would have come whole is estimated by the time it had", () => {
  assert.equal(tokensIn(79, 80, 6), 0);
  assert.equal(tokensIn(80.5, 80, 6), 1);
  assert.equal(tokensIn(200, 80, 6), 21);
  assert.equal(tokensIn(200, 0, 6), 0, "no prediction, no guess");
  assert.equal(tokensIn(200, 80, 0), 0);
});
