import assert from "node:assert/strict";
import { test } from "node:test";
import { scrapeLlamacpp } from "./llamacpp.ts";
import { labelOf, scanSamples } from "./metrics-text.ts";
import { scrapeOllama } from "./ollama.ts";
import { scrapeSglang } from "./sglang.ts";
import { scrapeTgi } from "./tgi.ts";
import { scrapeVllm } from "./vllm.ts";

test("vLLM: ranks are summed, cache use is the fullest rank's, capacity comes from the info metric", () => {
  const scrape = scrapeVllm(
    [
      "# HELP vllm:num_requests_running Number of requests in model execution batches.",
      "# TYPE vllm:num_requests_running gauge",
      'vllm:num_requests_running{engine="0",model_name="a"} 3.0',
      'vllm:num_requests_running{engine="1",model_name="a"} 4.0',
      'vllm:num_requests_waiting{engine="0",model_name="a"} 2.0',
      'vllm:kv_cache_usage_perc{engine="0",model_name="a"} 0.25',
      'vllm:kv_cache_usage_perc{engine="1",model_name="a"} 0.5',
      'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1000"} 1.0',
      'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="1",num_gpu_blocks="500"} 1.0',
      'vllm:num_preemptions_total{engine="0",model_name="a"} 7.0',
      'vllm:generation_tokens_total{engine="0",model_name="a"} 1.2345e+06',
      'vllm:time_to_first_token_seconds_bucket{le="0.001"} 0.0',
      "",
    ].join("\n"),
  );
  assert.deepEqual(scrape, {
    running: 7,
    waiting: 2,
    kvUsage: 0.5,
    kvCapacityTokens: 24_000,
    preemptions: 7,
    generation: 1_234_500,
    loadedModels: [],
  });
});

test("vLLM: the deprecated cache name serves where the new one is missing, and loses where both are", () => {
  const base = 'vllm:num_requests_running{model_name="a"} 1\n';
  assert.equal(scrapeVllm(`${base}vllm:gpu_cache_usage_perc{model_name="a"} 0.75\n`)?.kvUsage, 0.75);
  const both = `${base}vllm:gpu_cache_usage_perc{model_name="a"} 0\nvllm:kv_cache_usage_perc{model_name="a"} 0.5`;
  assert.equal(scrapeVllm(both)?.kvUsage, 0.5);
});

test("SGLang, TGI and llama.cpp are read by their own names; what they do not state is not made up", () => {
  assert.deepEqual(scrapeSglang('sglang:num_running_reqs{tp_rank="0"} 5\nsglang:num_queue_reqs 2\nsglang:token_usage 0.3\n'), {
    running: 5,
    waiting: 2,
    kvUsage: 0.3,
    kvCapacityTokens: 0,
    preemptions: -1,
    generation: -1,
    loadedModels: [],
  });
  const tgi = scrapeTgi("tgi_queue_size 4\ntgi_batch_current_size 8\ntgi_batch_current_max_tokens 9000");
  assert.deepEqual([tgi?.running, tgi?.waiting, tgi?.kvUsage, tgi?.kvCapacityTokens], [8, 4, -1, 9000]);
  const llama = scrapeLlamacpp("llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\nllamacpp:tokens_predicted_total 99\n");
  assert.deepEqual([llama?.running, llama?.waiting, llama?.kvUsage, llama?.generation], [2, 1, -1, 99]);
});

test("Ollama: loaded models are listed, `latest` also under its bare name", () => {
  const text = JSON.stringify({ models: [{ name: "llama3:latest", model: "llama3:latest" }, { model: "qwen3:4b" }, {}, null] });
  assert.deepEqual(scrapeOllama(text)?.loadedModels, ["llama3:latest", "llama3", "qwen3:4b"]);
  for (const bad of ["", "[]", "{}", '{"models":5}', "null", "<html>"]) assert.equal(scrapeOllama(bad), undefined, bad);
});

test("an answer without the engine's gauges is no scrape", () => {
  for (const text of ["", "\n\n", "<html>404</html>", "# HELP vllm:num_requests_running x", "vllm:num_requests_running NaN", "other 1"]) {
    assert.equal(scrapeVllm(text), undefined, text);
  }
});

test("the scan survives odd lines, time stamps and braces in labels", () => {
  const seen: [string, string, number][] = [];
  const text = 'm{a="x}y"} 1 1700000000\nm 2\r\nm{a="b" 3\nm\nm{} 4\nmm 5\n m 6\nm\t7';
  scanSamples(text, new Set(["m"]), (name, labels, value) => seen.push([name, labels, value]));
  assert.deepEqual(
    seen.map(([, , value]) => value),
    [1, 2, 4, 7],
  );
  assert.equal(labelOf(seen[0]![1], "a"), "x}y");
  assert.equal(labelOf('block="1",block_size="16"', "block_size"), "16");
});
