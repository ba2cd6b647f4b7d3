import assert from "node:assert/strict";
import { test } from "node:test";
import { answerJson, backendOf, createRig, startProvider } from "./module.testkit.ts";

test("what was left out of an answer is named beside what was left out of its request", async () => {
  const provider = await startProvider((_request, response) => {
    const content = [
      { type: "text", text: "Hi" },
      { type: "novelty", data: 1 },
    ];
    const usage = { input_tokens: 3, output_tokens: 1 };
    answerJson(response, { id: "msg_1", type: "message", role: "assistant", model: "m", content, stop_reason: "end_turn", usage });
  });
  const rig = createRig([backendOf({ url: provider.url, provider: "anthropic" })]);
  const body = { model: "chat", max_tokens: 5, seed: 1, messages: [{ role: "user", content: "x" }] };
  const end = await rig.attempt({ stream: false, body: Buffer.from(JSON.stringify(body)) }).ended;
  assert.equal(end.warnings.length, 2, JSON.stringify(end.warnings));
  assert.ok(end.warnings[0]!.startsWith("seed:"));
  assert.ok(end.warnings[1]!.includes("novelty"));
  await rig.host.module.stop();
  await provider.close();
});
