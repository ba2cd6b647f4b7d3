import { gaugeScraper } from "./gauges.ts";

/** SGLang with --enable-metrics. */
export const scrapeSglang = gaugeScraper({
  running: ["sglang:num_running_reqs"],
  waiting: ["sglang:num_queue_reqs"],
  kvUsage: ["sglang:token_usage"],
  kvCapacity: ["sglang:max_total_num_tokens"],
  kvBlocks: [],
  preemptions: ["sglang:num_retracted_reqs"],
  generated: ["sglang:generation_tokens_total"],
});
