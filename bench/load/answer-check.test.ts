import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerCheck, type AnswerVerdict } from "./answer-check.ts";

function check(isStream: boolean, ...pieces: string[]): AnswerVerdict {
  const answer = new AnswerCheck();
  answer.begin(isStream);
  for (const piece of pieces) answer.push(Buffer.from(piece));
  return answer.end(true);
}

const CHUNK = 'data: {"choices":[]}\n\n';

test("a stream is whole when it ends in [DONE], however it is cut", () => {
  const text = `${CHUNK}: ping\n\n${CHUNK}data: [DONE]\n\n`;
  assert.deepEqual(check(true, text), { problem: undefined, events: 2 });
  assert.deepEqual(check(true, ...text.split("")), { problem: undefined, events: 2 });
});

for (const [what, text, problem] of [
  ["without [DONE]", CHUNK, /without \[DONE\]/],
  ["cut inside [DONE]", `${CHUNK}data: [DO`, /without \[DONE\]/],
  ["with an error event", `${CHUNK}data: {"error":{"message":"x"}}\n\ndata: [DONE]\n\n`, /error event/],
  ["that goes on after [DONE]", `data: [DONE]\n\n${CHUNK}`, /after \[DONE\]/],
  ["that is empty", "", /without/],
] as const) {
  test(`a stream ${what} is not whole`, () => assert.match(check(true, text).problem!, problem));
}

for (const [what, pieces, problem] of [
  ["that is cut", ['{"choices":'], /no JSON object/],
  ["that is no JSON", ["{choices}"], /not valid/],
  ["of something else", ["{}"], /no choices/],
  ["that is empty", [], /no JSON object/],
] as const) {
  test(`a body ${what} is not whole`, () => assert.match(check(false, ...pieces).problem!, problem));
}

test("a body in pieces is whole", () => assert.equal(check(false, '{"choices"', ":[]}\n").problem, undefined));
