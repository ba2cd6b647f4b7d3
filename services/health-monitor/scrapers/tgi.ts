import { gaugeScraper } from "./gauges.ts";

/** Text Generation Inference; it states no cache use. */
export const scrapeTgi = gaugeScraper({
  running: ["tgi_batch_current_size"],
  waiting: ["tgi_queue_size"],
  kvUsage: [],
  kvCapacity: ["tgi_batch_current_max_tokens"],
  kvBlocks: [],
  preemptions: [],
  generated: ["tgi_request_generated_tokens_sum", "tgi_request_count"],
});
