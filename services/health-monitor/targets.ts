import type { BackendConfig } from "#libs/config/model.ts";
import { scrapeLlamacpp } from "./scrapers/llamacpp.ts";
import { scrapeOllama } from "./scrapers/ollama.ts";
import type { Scraper } from "./scrapers/scrape.ts";
import { scrapeSglang } from "./scrapers/sglang.ts";
import { scrapeTgi } from "./scrapers/tgi.ts";
import { scrapeVllm } from "./scrapers/vllm.ts";

/** The free call that shows whether a backend lives: a GET that needs no credentials to be answered, or a bare connect. */
export type Liveness =
  | { readonly kind: "get"; readonly url: string }
  | { readonly kind: "connect"; readonly host: string; readonly port: number };

/** Where a backend's gauges are, and who reads them. */
export interface ScrapeTarget {
  readonly url: string;
  readonly scraper: Scraper;
}

/**
 * The liveness call of a backend. Engines have `/health`; OpenAI-shaped and Anthropic's APIs have a model list, which
 * answers 401 without a key: an answer all the same, so no key leaves its role. The rest is connected to.
 */
export function livenessOf(backend: BackendConfig): Liveness | undefined {
  if (!URL.canParse(backend.url)) return undefined;
  const url = new URL(backend.url);
  switch (backend.provider) {
    case "vllm":
    case "sglang":
    case "llamacpp":
    case "tgi":
      return { kind: "get", url: new URL("/health", url).href };
    case "ollama":
      return { kind: "get", url: new URL("/api/version", url).href };
    case "anthropic":
      return { kind: "get", url: `${backend.url.replace(/\/v1$/, "")}/v1/models` };
    case "openai":
    case "openai-compatible":
    case "groq":
    case "mistral":
    case "deepseek":
    case "xai":
    case "openrouter":
    case "together":
    case "fireworks":
      return { kind: "get", url: `${backend.url}/models` };
    case "azure":
    case "gemini":
    case "bedrock":
      return {
        kind: "connect",
        host: url.hostname.replace(/^\[|\]$/g, ""),
        port: Number(url.port) || (url.protocol === "https:" ? 443 : 80),
      };
  }
}

/** Where to scrape; undefined = the backend states no gauges. */
export function scrapeTargetOf(backend: BackendConfig): ScrapeTarget | undefined {
  if (backend.provider === "ollama" && URL.canParse(backend.url)) {
    return { url: new URL("/api/ps", backend.url).href, scraper: scrapeOllama };
  }
  const url = backend.metrics?.url;
  const scraper = SCRAPERS[backend.provider];
  return url === undefined || scraper === undefined ? undefined : { url, scraper };
}

/** Engines that speak Prometheus; what calls itself OpenAI-compatible and has metrics is most often vLLM. */
const SCRAPERS: Readonly<Partial<Record<BackendConfig["provider"], Scraper>>> = {
  vllm: scrapeVllm,
  "openai-compatible": scrapeVllm,
  sglang: scrapeSglang,
  tgi: scrapeTgi,
  llamacpp: scrapeLlamacpp,
};
