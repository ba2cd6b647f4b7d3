import { stringify } from "yaml";
import { formatProblems, loadConfig, type Config, type ProviderName } from "#libs/config/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { DevBackend } from "#simulator/index.ts";

type WrittenBackend = Readonly<Record<string, unknown>> & { readonly provider: ProviderName; readonly model: string };

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
  /** The simulated backends as they run. */
  readonly simulated: readonly DevBackend[];
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
  const simulated = options.simulated.map(({ name }) => name);
  const seeing = options.simulated.filter(({ capabilities }) => capabilities.includes("vision")).map(({ name }) => name);
  const models: Record<string, unknown> = {};
  if (simulated.length > 0) {
    models["chat"] = {
      aliases: ["gpt-4o-mini", "default"],
      candidates: simulated,
      class: "interactive",
      sla: { ttft: "1s", tpot: "60ms", deadline: "60s" },
    };
  }
  if (seeing.length > 0) models["vision"] = { candidates: seeing, requires: ["vision"] };
  return {
    version: 1,
    // Nothing is behind a load balancer: stopping is at once.
    server: { grpc: { reflection: true }, drain: { delay: "0s", grace: "10s" } },
    backends: { ...Object.fromEntries(options.simulated.map(({ name, ...backend }) => [name, backend])), ...realBackends(options.env) },
    prices: { on_unknown: "allow_unpriced", baseline: "openai/gpt-5" },
    models,
    telemetry: { traces: { sample: "100%" } },
  };
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
