import assert from "node:assert/strict";
import { test } from "node:test";
import { ATTRIBUTE, EVENT, METRIC, providerName, SPAN } from "./semconv.ts";

test("span names are pinned", () => {
  assert.equal(SPAN.root("POST", "/v1/chat/completions"), "POST /v1/chat/completions");
  assert.equal(SPAN.decide, "signalbox.decide");
  assert.equal(SPAN.attempt("chat", "m"), "chat m");
  assert.deepEqual(EVENT, { candidate: "signalbox.candidate", redecide: "signalbox.redecide" });
});

test("the GenAI attributes are those of the conventions", () => {
  const names = Object.values(ATTRIBUTE).filter((name) => name.startsWith("gen_ai."));
  assert.deepEqual(names.sort(), [
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.max_tokens",
    "gen_ai.request.model",
    "gen_ai.request.stream",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.reasoning.output_tokens",
  ]);
});

test("the attributes others filter by are pinned", () => {
  assert.equal(ATTRIBUTE.policyStale, "signalbox.policy.stale");
  assert.equal(ATTRIBUTE.configVersion, "signalbox.config.version");
  assert.equal(ATTRIBUTE.backend, "signalbox.backend");
  assert.equal(ATTRIBUTE.excluded, "signalbox.candidate.excluded");
});

test("metric names are legal, unique and carry their unit", () => {
  const names = Object.values(METRIC);
  assert.equal(new Set(names).size, names.length);
  for (const name of names) assert.match(name, /^(gen_ai|signalbox)_[a-z_]+$/);
});

test("providers the conventions name are named as they do", () => {
  assert.equal(providerName("gemini"), "gcp.gemini");
  assert.equal(providerName("vllm"), "vllm");
});
