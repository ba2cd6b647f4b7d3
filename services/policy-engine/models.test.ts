import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePriceBook } from "#libs/money/index.ts";
import { backend, book, config, model } from "./fixture.ts";
import { compileSnapshot } from "./snapshot.ts";

test("names resolve: a model over an alias, an alias over provider/model, that over a backend", () => {
  const snapshot = compileSnapshot(
    config(
      [backend("x", { model: "gpt" }), backend("y", { model: "gpt" }), backend("chat")],
      [model("chat", ["x"], { aliases: ["openai/gpt"] })],
    ),
    undefined,
    compilePriceBook(book({})),
  );
  assert.equal(snapshot.models.get("openai/gpt")!.name, "chat");
  assert.equal(snapshot.models.get("chat")!.implied, false);
  assert.deepEqual(Array.from(snapshot.models.get("y")!.candidates), [1]);
  assert.equal(snapshot.models.get("openai/chat-model")!.name, "openai/chat-model");
});
