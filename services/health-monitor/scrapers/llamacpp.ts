import { gaugeScraper } from "./gauges.ts";

/** llama.cpp's server with --metrics; newer releases have dropped the cache gauges. */
export const scrapeLlamacpp = gaugeScraper({
  running: ["llamacpp:requests_processing"],
  waiting: ["llamacpp:requests_deferred"],
  kvUsage: ["llamacpp:kv_cache_usage_ratio"],
  kvCapacity: [],
  kvBlocks: [],
  preemptions: [],
  generated: ["llamacpp:tokens_predicted_total", "llamacpp:n_decode_total"],
});
