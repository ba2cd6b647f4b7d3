import assert from "node:assert/strict";
import { test } from "node:test";
import { Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { defaultConfig, defaultModel } from "#libs/config/index.ts";
import { dryRunRequest } from "./explain-request.ts";

const CONFIG = defaultConfig({
  models: new Map([
    ["chat", defaultModel("chat", ["a"])],
    ["embed", defaultModel("embed", ["a"], { requires: new Set(["embeddings"]), aliases: ["ada"] })],
  ]),
});

test("fault: a dry run for a model that embeds was decided as a chat", () => {
  const operation = (body: Record<string, unknown>): Operation => dryRunRequest(body, "d", CONFIG).operation;
  assert.equal(operation({ model: "chat" }), Operation.CHAT);
  assert.equal(operation({ model: "embed" }), Operation.EMBEDDINGS);
  assert.equal(operation({ model: "ada" }), Operation.EMBEDDINGS);
  assert.equal(operation({ model: "chat", needs: ["embeddings"] }), Operation.EMBEDDINGS);
});

test("a count that no request has is refused", () => {
  for (const input_tokens of [-1, 1.5, 2 ** 32, 1e30, "7"])
    assert.throws(() => dryRunRequest({ model: "chat", input_tokens }, "d", CONFIG), /input_tokens must be a whole number from 0 to/);
});
