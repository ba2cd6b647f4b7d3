import { withParents } from "./check-backends.ts";
import * as defaults from "./defaults.ts";
import type { BackendConfig, PriceFields, ProviderName } from "./model.ts";
import { capabilitiesOf, PROVIDERS } from "./providers.ts";
import { secretOf, type ReferenceSources } from "./references.ts";
import type { FileBackend, FileConfig } from "./schema.ts";

type FilePrice = NonNullable<FileBackend["price"]>;

/** Price settings of the file in pico- and nano-USD. */
export function priceOf(price: FilePrice): PriceFields {
  const tokens = price.per_million ?? {};
  return {
    inputPico: tokens.input,
    cacheReadPico: tokens.cache_read,
    cacheWritePico: tokens.cache_write,
    cacheWrite1hPico: tokens.cache_write_1h,
    outputPico: tokens.output,
    reasoningPico: tokens.reasoning,
    audioInputPico: tokens.audio_input,
    audioOutputPico: tokens.audio_output,
    imageInputPico: tokens.image_input,
    perRequestNano: price.per_request,
    webSearchNano: price.web_search,
    perHourNano: price.per_hour,
  };
}

/** Seconds of a minute: `rps` is `rpm` / 60. */
const MINUTE_S = 60;

/** Requests per minute from either way to write them. */
export function perMinute(limits: { rpm?: number | undefined; rps?: number | undefined } | undefined): number | undefined {
  return limits?.rpm ?? (limits?.rps === undefined ? undefined : Math.max(1, Math.round(limits.rps * MINUTE_S)));
}

/** A backend from its settings, with its provider's facts and the defaults filled in. */
export function backendOf(name: string, provider: ProviderName, file: FileBackend, sources: ReferenceSources): BackendConfig {
  const contextTokens = file.context ?? defaults.CONTEXT_TOKENS;
  const max = file.concurrency?.max ?? Math.max(defaults.CONCURRENCY.max, file.concurrency?.min ?? 0);
  return {
    name,
    provider,
    url: file.url ?? PROVIDERS[provider].url ?? "",
    key: file.key === undefined ? undefined : secretOf(file.key, sources),
    model: file.model ?? "",
    contextTokens,
    maxOutputTokens: file.max_output ?? Math.min(defaults.OUTPUT_MAX_TOKENS, contextTokens),
    capabilities: capabilitiesOf(provider, file.capabilities),
    concurrency: {
      mode: file.concurrency?.mode ?? defaults.CONCURRENCY.mode,
      min: file.concurrency?.min ?? Math.min(defaults.CONCURRENCY.min, max),
      max,
    },
    metrics: file.metrics,
    price: file.price === undefined ? undefined : priceOf(file.price),
    labels: new Map(Object.entries(file.labels ?? {})),
    limits: { rpm: perMinute(file.limits), tpm: file.limits?.tpm },
    anthropicVersion: file.anthropic_version ?? defaults.ANTHROPIC_VERSION,
    serviceTiers: file.service_tiers ?? false,
    paramsB: file.params_b,
    enginePriority: file.engine_priority ?? false,
  };
}

/** All backends. Checked before: every one has a provider and a model, its own or its parents'. */
export function resolveBackends(file: FileConfig, sources: ReferenceSources): ReadonlyMap<string, BackendConfig> {
  const backends = new Map<string, BackendConfig>();
  for (const name of Object.keys(file.backends)) {
    const merged = withParents(file.backends, name, () => {}) as FileBackend;
    if (merged.provider !== undefined) backends.set(name, backendOf(name, merged.provider, merged, sources));
  }
  return backends;
}
