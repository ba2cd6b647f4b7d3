import { gaugeScraper } from "./gauges.ts";

/** vLLM, V1 engine first, the names of earlier releases after it. */
export const scrapeVllm = gaugeScraper({
  running: ["vllm:num_requests_running"],
  waiting: ["vllm:num_requests_waiting"],
  kvUsage: ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
  kvCapacity: [],
  kvBlocks: ["vllm:cache_config_info"],
  preemptions: ["vllm:num_preemptions_total", "vllm:num_preemptions"],
  generated: ["vllm:generation_tokens_total", "vllm:generation_tokens"],
});
