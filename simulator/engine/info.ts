import type { SimBackendProfile } from "../profile.ts";
import type { Engine } from "./engine.ts";
import type { PrefixCache } from "./prefix-cache.ts";

/** Tokens of one KV block, as vLLM's default. */
const KV_BLOCK_TOKENS = 16;

/** Metrics of an engine in its own names and Prometheus' text form; undefined = the dialect has none. */
export function metricsText(profile: SimBackendProfile, engine: Engine, cache: PrefixCache): string | undefined {
  const model = profile.model.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  switch (profile.dialect) {
    case "vllm":
      return vllmMetrics(`engine="0",model_name="${model}"`, profile, engine, cache);
    case "sglang":
      return sglangMetrics(`engine_type="unified",model_name="${model}",tp_rank="0"`, profile, engine, cache);
    case "llamacpp":
      return llamacppMetrics(engine);
    case "tgi":
      return gauges("", {
        tgi_queue_size: engine.waiting,
        tgi_batch_current_size: engine.running,
        tgi_batch_current_max_tokens: engine.kvTokens,
      });
    case "openai":
    case "anthropic":
    case "ollama":
      return undefined;
  }
}

function line(type: "gauge" | "counter", name: string, labels: string, value: number): string {
  return `# HELP ${name} Simulated.\n# TYPE ${name} ${type}\n${name}${labels === "" ? "" : `{${labels}}`} ${value}\n`;
}

function gauges(labels: string, values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => line("gauge", name, labels, value))
    .join("");
}

function counters(labels: string, values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => line("counter", name, labels, value))
    .join("");
}

function capacityOf(profile: SimBackendProfile): number {
  return profile.speed.kind === "engine" ? profile.speed.kvCapacityTokens : profile.contextTokens;
}

function vllmMetrics(labels: string, profile: SimBackendProfile, engine: Engine, cache: PrefixCache): string {
  const { counters: counted } = engine;
  const blocks = Math.floor(capacityOf(profile) / KV_BLOCK_TOKENS);
  let text = gauges(labels, {
    "vllm:num_requests_running": engine.running,
    "vllm:num_requests_waiting": engine.waiting,
    "vllm:kv_cache_usage_perc": engine.kvUsage,
  });
  text += line(
    "gauge",
    "vllm:cache_config_info",
    `block_size="${KV_BLOCK_TOKENS}",cache_dtype="auto",enable_prefix_caching="True",engine="0",num_gpu_blocks="${blocks}"`,
    1,
  );
  text += counters(labels, {
    "vllm:prompt_tokens_total": counted.promptTokens,
    "vllm:generation_tokens_total": counted.generationTokens,
    "vllm:prefix_cache_queries_total": cache.queries,
    "vllm:prefix_cache_hits_total": cache.hits,
    "vllm:num_preemptions_total": 0,
  });
  text += "# HELP vllm:request_success_total Simulated.\n# TYPE vllm:request_success_total counter\n";
  for (const [reason, count] of counted.finished) text += `vllm:request_success_total{${labels},finished_reason="${reason}"} ${count}\n`;
  text += counted.ttft.lines("vllm:time_to_first_token_seconds", labels);
  text += counted.itl.lines("vllm:inter_token_latency_seconds", labels);
  text += counted.queue.lines("vllm:request_queue_time_seconds", labels);
  return text + counted.e2e.lines("vllm:e2e_request_latency_seconds", labels);
}

function sglangMetrics(labels: string, profile: SimBackendProfile, engine: Engine, cache: PrefixCache): string {
  const { counters: counted } = engine;
  let text = gauges(labels, {
    "sglang:num_running_reqs": engine.running,
    "sglang:num_queue_reqs": engine.waiting,
    "sglang:token_usage": engine.kvUsage,
    "sglang:num_used_tokens": engine.kvTokens,
    "sglang:cache_hit_rate": cache.queries === 0 ? 0 : cache.hits / cache.queries,
    "sglang:gen_throughput": 0,
    "sglang:num_retracted_reqs": 0,
  });
  text += line("gauge", "sglang:cache_config_info", `num_pages="${capacityOf(profile)}",page_size="1"`, 1);
  text += counters(labels, {
    "sglang:prompt_tokens_total": counted.promptTokens,
    "sglang:generation_tokens_total": counted.generationTokens,
  });
  text += counted.ttft.lines("sglang:time_to_first_token_seconds", labels);
  return text + counted.itl.lines("sglang:inter_token_latency_seconds", labels);
}

function llamacppMetrics(engine: Engine): string {
  const { counters: counted } = engine;
  const totals = counters("", {
    "llamacpp:prompt_tokens_total": counted.promptTokens,
    "llamacpp:tokens_predicted_total": counted.generationTokens,
  });
  return (
    totals +
    gauges("", {
      "llamacpp:requests_processing": engine.running,
      "llamacpp:requests_deferred": engine.waiting,
      "llamacpp:n_busy_slots_per_decode": engine.running,
    })
  );
}

/** JSON answers to an engine's own GET routes; undefined = no such route. An empty string answers 200 with nothing. */
export function infoJson(profile: SimBackendProfile, path: string, engine: Engine): string | undefined {
  const { dialect, model } = profile;
  const key = `${dialect} ${path}`;
  const slots = profile.speed.kind === "engine" ? profile.speed.maxSequences : 4;
  switch (key) {
    case "vllm /health":
    case "vllm /ping":
    case "sglang /health":
    case "sglang /health_generate":
    case "tgi /health":
      return "";
    case "vllm /version":
      return JSON.stringify({ version: "0.24.0" });
    case "vllm /load":
      return JSON.stringify({ server_load: engine.running + engine.waiting });
    case "sglang /get_server_info":
      return JSON.stringify({ model_path: model, max_running_requests: slots, version: "0.5.9" });
    case "sglang /v1/loads":
      return JSON.stringify([
        {
          dp_rank: 0,
          num_running_reqs: engine.running,
          num_waiting_reqs: engine.waiting,
          num_waiting_uncached_tokens: 0,
          token_usage: engine.kvUsage,
          gen_throughput: 0,
          max_running_requests: slots,
        },
      ]);
    case "llamacpp /health":
      return JSON.stringify({ status: "ok" });
    case "llamacpp /slots":
      return JSON.stringify(
        Array.from({ length: slots }, (_, id) => ({ id, n_ctx: profile.contextTokens, is_processing: id < engine.running })),
      );
    case "llamacpp /props":
      return JSON.stringify({ total_slots: slots, model_path: model });
    case "ollama /api/version":
      return JSON.stringify({ version: "0.14.0" });
    case "ollama /api/tags":
    case "ollama /api/ps":
      return JSON.stringify({ models: [{ name: model, model, size: 1 }] });
    case "tgi /info":
      return JSON.stringify({ model_id: model, max_concurrent_requests: slots, max_input_tokens: profile.contextTokens });
    default:
      return undefined;
  }
}

/** The answer to `GET /v1/models` or, with a name, to `GET /v1/models/{name}`; undefined = not served. */
export function modelsJson(profile: SimBackendProfile, name: string | undefined): string | undefined {
  const names = [profile.model, ...(profile.aliases ?? [])];
  if (name !== undefined && !names.includes(name)) return undefined;
  const isAnthropic = profile.dialect === "anthropic";
  const describe = (id: string): object => {
    if (isAnthropic) return { type: "model", id, display_name: id, created_at: "2025-10-01T00:00:00Z" };
    const plain = { id, object: "model", created: 1_760_000_000, owned_by: profile.dialect === "openai" ? "system" : profile.dialect };
    return profile.dialect === "vllm" ? { ...plain, root: id, parent: null, max_model_len: profile.contextTokens } : plain;
  };
  if (name !== undefined) return JSON.stringify(describe(name));
  const data = names.map(describe);
  return JSON.stringify(isAnthropic ? { data, has_more: false, first_id: names[0], last_id: names.at(-1) } : { object: "list", data });
}
