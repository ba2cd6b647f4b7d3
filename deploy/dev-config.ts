import { stringify } from "yaml";
import { formatProblems, loadConfig, type Config, type ProviderName } from "#libs/config/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";

type WrittenBackend = Readonly<Record<string, unknown>> & { readonly provider: ProviderName; readonly model: string };

/** The simulated backends of `signalbox dev`, without their addresses. */
const SIMULATED: Readonly<Record<string, WrittenBackend>> = {
  "sim-gpu-a": {
    provider: "vllm",
    model: "meta-llama/Llama-3.3-70B-Instruct",
    context: "128k",
    capabilities: ["tools", "json_schema"],
    concurrency: { mode: "adaptive", min: 2, max: 64 },
    price: { per_hour: "$1.90" },
    params_b: 70,
    labels: { zone: "dc1", residency: "eu" },
  },
  "sim-gpu-b": {
    provider: "vllm",
    model: "meta-llama/Llama-3.3-70B-Instruct",
    context: "128k",
    capabilities: ["tools", "json_schema"],
    concurrency: { mode: "adaptive", min: 2, max: 64 },
    price: { per_hour: "$1.90" },
    params_b: 70,
    labels: { zone: "dc2", residency: "eu" },
  },
  "sim-openai": {
    provider: "openai",
    model: "gpt-5-mini",
    context: "400k",
    capabilities: ["tools", "vision", "json_schema", "embeddings"],
    price: { per_million: { input: "$0.25", cache_read: "$0.025", output: "$2.00" } },
    labels: { residency: "us" },
  },
  "sim-claude": {
    provider: "anthropic",
    model: "claude-haiku-4-5",
    context: "200k",
    capabilities: ["tools", "vision", "json_schema"],
    price: { per_million: { input: "$1.00", cache_read: "$0.10", cache_write: "$1.25", output: "$5.00" } },
    labels: { residency: "us" },
  },
};

/** Engines whose simulated server also has `/metrics` at its root. */
const SCRAPED: ReadonlySet<ProviderName> = new Set(["vllm", "sglang", "llamacpp", "tgi"]);

/** Real providers `dev` adds when their variable is set, with the models they get. Ids are current at each vendor. */
const FROM_ENVIRONMENT: readonly {
  readonly variable: string;
  readonly provider: ProviderName;
  readonly context: string;
  readonly models: readonly string[];
}[] = [
  { variable: "OPENAI_API_KEY", provider: "openai", context: "400k", models: ["gpt-5-mini", "gpt-5"] },
  { variable: "ANTHROPIC_API_KEY", provider: "anthropic", context: "200k", models: ["claude-haiku-4-5", "claude-sonnet-4-5"] },
  { variable: "GEMINI_API_KEY", provider: "gemini", context: "1M", models: ["gemini-2.5-flash", "gemini-2.5-pro"] },
  { variable: "GROQ_API_KEY", provider: "groq", context: "128k", models: ["llama-3.3-70b-versatile"] },
  { variable: "MISTRAL_API_KEY", provider: "mistral", context: "128k", models: ["mistral-small-latest"] },
  { variable: "DEEPSEEK_API_KEY", provider: "deepseek", context: "128k", models: ["deepseek-chat"] },
  { variable: "XAI_API_KEY", provider: "xai", context: "256k", models: ["grok-4"] },
];

/** The model `dev` asks of an Ollama server, unless `OLLAMA_MODEL` names another. */
const OLLAMA_MODEL = "llama3.2";

/** What `signalbox dev` brings. */
export interface DevOptions {
  /** Base URL (as an SDK takes it) of each simulated backend by name: `sim-gpu-a`, `sim-gpu-b`, `sim-openai`, `sim-claude`. */
  readonly simulators: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * The configuration of `signalbox dev` as text: the simulated backends under `chat` and `vision`, and a real backend,
 * named `provider/model` and never a candidate of those, for each provider key in the environment.
 */
export function devConfigText(options: DevOptions): string {
  return stringify(devDocument(options), { aliasDuplicateObjects: false });
}

/** The same, loaded. Throws INTERNAL when it does not load, which is a mistake in this file. */
export function devConfig(options: DevOptions, dataDir: string): Config {
  const loaded = loadConfig(devConfigText(options), { file: "dev.yaml", env: options.env, dataDir });
  if (loaded.config) return loaded.config;
  throw new SignalboxError("INTERNAL", `the built-in configuration does not load:\n${formatProblems(loaded.problems)}`);
}

function devDocument(options: DevOptions): Record<string, unknown> {
  const simulated = Object.keys(options.simulators);
  const able = (capability: string): string[] =>
    simulated.filter((name) => ((SIMULATED[name]?.["capabilities"] ?? []) as readonly string[]).includes(capability));
  const models: Record<string, unknown> = {};
  if (simulated.length > 0) {
    models["chat"] = {
      aliases: ["gpt-4o-mini", "default"],
      candidates: simulated,
      class: "interactive",
      sla: { ttft: "1s", tpot: "60ms", deadline: "60s" },
    };
  }
  if (able("vision").length > 0) models["vision"] = { candidates: able("vision"), requires: ["vision"] };
  return {
    version: 1,
    // Nothing is behind a load balancer: stopping is at once.
    server: { grpc: { reflection: true }, drain: { delay: "0s", grace: "10s" } },
    backends: { ...simulatedBackends(options.simulators), ...realBackends(options.env) },
    prices: { on_unknown: "allow_unpriced", baseline: "openai/gpt-5" },
    models,
    telemetry: { traces: { sample: "100%" } },
  };
}

function simulatedBackends(simulators: Readonly<Record<string, string>>): Record<string, WrittenBackend> {
  const backends: Record<string, WrittenBackend> = {};
  for (const [name, url] of Object.entries(simulators)) {
    const known = SIMULATED[name] ?? { provider: "openai-compatible" as const, model: name };
    const metrics = SCRAPED.has(known.provider) ? { metrics: { url: `${new URL(url).origin}/metrics` } } : {};
    backends[name] = { ...known, url, ...metrics };
  }
  return backends;
}

function realBackends(env: Readonly<Record<string, string | undefined>>): Record<string, WrittenBackend> {
  const backends: Record<string, WrittenBackend> = {};
  for (const { variable, provider, context, models } of FROM_ENVIRONMENT) {
    if ((env[variable] ?? "") === "") continue;
    for (const model of models) backends[`${provider}/${model}`] = { provider, model, context, key: `\${env:${variable}}` };
  }
  const host = env["OLLAMA_HOST"] ?? "";
  const url = ollamaUrl(host);
  if (url !== undefined) {
    const model = env["OLLAMA_MODEL"] ?? OLLAMA_MODEL;
    backends[`ollama/${model}`] = { provider: "ollama", model, url, price: { per_million: { input: "$0", output: "$0" } } };
  }
  return backends;
}

/** Ollama's variable is a host, a host:port or a URL; 0.0.0.0 is where it listens, not where it is called. */
function ollamaUrl(host: string): string | undefined {
  if (host.trim() === "") return undefined;
  const text = host.includes("://") ? host : `http://${host}`;
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  const name = url.hostname === "0.0.0.0" ? "127.0.0.1" : url.hostname;
  return `${url.protocol}//${name}:${url.port === "" ? 11_434 : url.port}/v1`;
}
