import type { BackendConfig, Config, ProviderName } from "#libs/config/model.ts";
import { anthropicCodec } from "./anthropic/index.ts";
import type { ProviderCodec } from "./codec.ts";
import { BackendLimit } from "./limits.ts";
import type { BackendMeters } from "./meters.ts";
import { openaiCodec } from "./openai/index.ts";

/** Which codec speaks a provider's wire. Providers without one are not served. */
const CODECS: Readonly<Partial<Record<ProviderName, ProviderCodec>>> = {
  openai: openaiCodec,
  "openai-compatible": openaiCodec,
  azure: openaiCodec,
  vllm: openaiCodec,
  sglang: openaiCodec,
  llamacpp: openaiCodec,
  tgi: openaiCodec,
  ollama: openaiCodec,
  groq: openaiCodec,
  mistral: openaiCodec,
  deepseek: openaiCodec,
  xai: openaiCodec,
  openrouter: openaiCodec,
  together: openaiCodec,
  fireworks: openaiCodec,
  anthropic: anthropicCodec,
};

/** One backend as this replica calls it. */
export interface BackendEntry {
  readonly backend: BackendConfig;
  readonly codec: ProviderCodec;
  /** Scheme, host and port of the backend's url: the only place its credential goes to. */
  readonly origin: string;
  /** Path of the backend's url, without trailing slash. */
  readonly basePath: string;
  /** Query of the backend's url with its question mark (Azure's api-version), or "". */
  readonly query: string;
  readonly limit: BackendLimit;
  readonly meters: BackendMeters;
  /** Headers of every call, credential included, names and values in turn. Throws when the secret cannot be resolved. */
  standingHeaders(): readonly string[];
}

/** What every provider is told besides the dialect's own headers. Encodings are refused: a bomb is small on the wire. */
const STANDING = [
  ["content-type", "application/json"],
  ["accept-encoding", "identity"],
  ["user-agent", "signalbox"],
  ["via", "1.1 signalbox"],
  ["x-signalbox-hop", "1"],
] as const;

/** The backends in force. A reload builds a new table; attempts that run keep their entry, limits live on by name. */
export class Registry {
  #entries: ReadonlyMap<string, BackendEntry> = new Map();
  readonly #limits = new Map<string, BackendLimit>();
  readonly #meters = new Map<string, BackendMeters>();
  readonly #only: string | undefined;
  readonly #metersOf: (backend: string) => BackendMeters;

  /** `only` restricts to one dialect folder. */
  constructor(only: string | undefined, metersOf: (backend: string) => BackendMeters) {
    this.#only = only;
    this.#metersOf = metersOf;
  }

  get(backend: string): BackendEntry | undefined {
    return this.#entries.get(backend);
  }

  /** Names served, in the order of the configuration. */
  names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** Swaps the table whole. */
  load(config: Config, replicasOf: (backend: string) => number): void {
    const entries = new Map<string, BackendEntry>();
    for (const backend of config.backends.values()) {
      const codec = CODECS[backend.provider];
      if (codec === undefined || (this.#only !== undefined && codec.name !== this.#only)) continue;
      entries.set(backend.name, this.#entryOf(backend, codec));
    }
    this.#entries = entries;
    this.resize(replicasOf);
  }

  /** Divides every backend's bound anew. */
  resize(replicasOf: (backend: string) => number): void {
    for (const { backend, limit } of this.#entries.values()) limit.resize(backend.concurrency.max, replicasOf(backend.name));
  }

  #entryOf(backend: BackendConfig, codec: ProviderCodec): BackendEntry {
    const known = this.#entries.get(backend.name);
    if (known?.backend === backend) return known;
    let limit = this.#limits.get(backend.name);
    if (limit === undefined) this.#limits.set(backend.name, (limit = new BackendLimit(backend.concurrency.max)));
    let meters = this.#meters.get(backend.name);
    if (meters === undefined) this.#meters.set(backend.name, (meters = this.#metersOf(backend.name)));
    const url = new URL(backend.url);
    let standing: readonly string[] | undefined;
    return {
      backend,
      codec,
      origin: url.origin,
      basePath: url.pathname.replace(/\/+$/, ""),
      query: url.search,
      limit,
      meters,
      standingHeaders: () => (standing ??= standingHeaders(backend, codec)),
    };
  }
}

function standingHeaders(backend: BackendConfig, codec: ProviderCodec): readonly string[] {
  const credential = codec.authHeaders(backend, backend.key?.reveal() ?? "");
  return [...STANDING, ...Object.entries(credential)].flat();
}
