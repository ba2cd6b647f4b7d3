import type { Secret } from "./secret.ts";

/**
 * The configuration as the code sees it: parsed, defaulted, units resolved (ms, bytes, nano-USD, ratios 0..1, tokens),
 * references checked, frozen. `libs/config` turns `signalbox.yaml` into this and nothing else reads the file.
 * Secrets are unresolved references until a role asks for them.
 */
export interface Config {
  readonly version: 1;
  /** Content hash, recorded in every decision. */
  readonly configVersion: string;
  readonly server: ServerConfig;
  readonly auth: { readonly mode: "open" | "keys" };
  /** What exists. Each is reachable by its own name and as `provider/model`, whether or not a model lists it. */
  readonly backends: ReadonlyMap<string, BackendConfig>;
  readonly prices: PricesConfig;
  readonly schedules: ReadonlyMap<string, ScheduleConfig>;
  /** Never empty when there are backends: a file without models has one named `default` over all of them. */
  readonly models: ReadonlyMap<string, ModelConfig>;
  readonly rules: readonly RuleConfig[];
  readonly classes: Readonly<Record<ClassName, ClassConfig>>;
  readonly resilience: ResilienceConfig;
  readonly experiments: ReadonlyMap<string, ExperimentConfig>;
  readonly tenants: ReadonlyMap<string, TenantConfig>;
  readonly ledger: LedgerConfig;
  readonly telemetry: TelemetryConfig;
  readonly mesh: MeshConfig;
}

/** host:port, split. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface ServerConfig {
  readonly api: {
    readonly listen: ListenAddress;
    readonly bodyMaxBytes: number;
    readonly headerTimeoutMs: number;
    readonly bodyTimeoutMs: number;
    /** How long a client may take no byte of an answer that waits for it before it is cut off. */
    readonly readerTimeoutMs: number;
    readonly headersMaxBytes: number;
    readonly connectionsMax: number;
  };
  readonly admin: { readonly listen: ListenAddress; readonly allowedHosts: readonly string[] };
  readonly grpc: { readonly listen: ListenAddress; readonly reflection: boolean };
  readonly drain: { readonly delayMs: number; readonly graceMs: number };
}

/** Provider words of product.md: each names an adapter dialect or an engine behind one. */
export type ProviderName =
  | "openai"
  | "openai-compatible"
  | "azure"
  | "anthropic"
  | "gemini"
  | "bedrock"
  | "vllm"
  | "sglang"
  | "llamacpp"
  | "tgi"
  | "ollama"
  | "groq"
  | "mistral"
  | "deepseek"
  | "xai"
  | "openrouter"
  | "together"
  | "fireworks";

/** Capability words; bit numbers live in libs/capability. */
export type CapabilityName =
  | "tools"
  | "vision"
  | "json_schema"
  | "audio"
  | "pdf"
  | "logprobs"
  | "n"
  | "json_object"
  | "parallel_tools"
  | "reasoning"
  | "embeddings"
  | "completions"
  | "prefill"
  | "streaming";

export interface BackendConfig {
  readonly name: string;
  readonly provider: ProviderName;
  /** The SDK's base URL (for OpenAI-shaped ones it ends in /v1); provider default where there is one. No trailing slash. */
  readonly url: string;
  readonly key: Secret | undefined;
  /** Upstream model name. */
  readonly model: string;
  /** Context window, tokens. */
  readonly contextTokens: number;
  /** Most output tokens it gives. */
  readonly maxOutputTokens: number;
  readonly capabilities: ReadonlySet<CapabilityName>;
  readonly concurrency: { readonly mode: "adaptive" | "fixed"; readonly min: number; readonly max: number };
  readonly metrics: { readonly url: string } | undefined;
  /** From the backend's own `price`; overrides in `prices` win. */
  readonly price: PriceFields | undefined;
  readonly labels: ReadonlyMap<string, string>;
  /** Provider limits; undefined = unknown. */
  readonly limits: { readonly rpm: number | undefined; readonly tpm: number | undefined };
  readonly anthropicVersion: string;
  /** Whether service_tier may be sent upstream. */
  readonly serviceTiers: boolean;
  /** Model size in billions of parameters, scales the latency prior; undefined = unknown. */
  readonly paramsB: number | undefined;
  /** Whether a body `priority` may be sent to the engine. */
  readonly enginePriority: boolean;
}

/** Token prices in pico-USD per token; undefined = take the parent class. */
export interface PriceFields {
  readonly inputPico: bigint | undefined;
  readonly cacheReadPico: bigint | undefined;
  readonly cacheWritePico: bigint | undefined;
  readonly cacheWrite1hPico: bigint | undefined;
  readonly outputPico: bigint | undefined;
  readonly reasoningPico: bigint | undefined;
  readonly audioInputPico: bigint | undefined;
  readonly audioOutputPico: bigint | undefined;
  readonly imageInputPico: bigint | undefined;
  readonly perRequestNano: bigint | undefined;
  readonly webSearchNano: bigint | undefined;
  readonly perHourNano: bigint | undefined;
}

export interface PriceOverride extends PriceFields {
  readonly backend: string;
  /** ms since the epoch; 0 = always. */
  readonly effectiveFromMs: number;
  readonly schedule: string | undefined;
  readonly tiers: readonly { readonly aboveTokens: number; readonly price: PriceFields }[];
  readonly serviceTiers: ReadonlyMap<string, PriceFields>;
}

export interface PricesConfig {
  readonly onUnknown: "reject" | "allow_unpriced";
  /** `provider/model` or a backend name; undefined = none. */
  readonly baseline: string | undefined;
  readonly overrides: readonly PriceOverride[];
  /** Extra price files (LiteLLM's JSON format); written relative to the configuration file, resolved against its folder here. */
  readonly files: readonly string[];
}

export interface ScheduleConfig {
  readonly name: string;
  readonly tz: string;
  /** Minutes of the week, Monday 00:00 = 0, [from, to). A window over midnight or the week's end is split. */
  readonly windows: readonly { readonly from: number; readonly to: number }[];
}

export type ClassName = "interactive" | "standard" | "batch";

export interface ModelConfig {
  readonly name: string;
  readonly aliases: readonly string[];
  /** Backend names; order only breaks ties. */
  readonly candidates: readonly string[];
  readonly requires: ReadonlySet<CapabilityName>;
  readonly sla: { readonly ttftMs: number | undefined; readonly tpotMs: number | undefined; readonly deadlineMs: number | undefined };
  readonly class: ClassName;
  readonly midStream: "resume" | "error";
  /** Opt-in: identical deterministic requests share one upstream call. */
  readonly singleFlight: boolean;
}

export interface RuleConfig {
  readonly name: string;
  /** CEL over `tags`, `request`, `tenant`, `team`, `key`; compiled by the policy engine. */
  readonly when: string;
  readonly require: ReadonlyMap<string, string>;
  readonly exclude: readonly string[];
  readonly class: ClassName | undefined;
}

export interface ClassConfig {
  /** Saturation above which the class waits. */
  readonly ceiling: number;
  readonly queueMax: number;
  readonly maxWaitMs: number;
  /** Guaranteed share of dispatched tokens, 0..1. */
  readonly minShare: number;
  /** Schedule `/v1/batches` items wait for; undefined = none. */
  readonly deferTo: string | undefined;
}

export interface ResilienceConfig {
  readonly attempts: { readonly interactive: number; readonly standard: number; readonly batch: number };
  readonly retry: { readonly budget: number; readonly minPerS: number };
  readonly hedge: { readonly budget: number; readonly after: "p95" | "p99" | "off"; readonly maxCostNanoUsd: bigint };
  readonly breaker: {
    readonly consecutive: number;
    readonly successRate: number;
    readonly windowMs: number;
    readonly minRequests: number;
    readonly openMs: number;
    readonly maxOpenMs: number;
    readonly maxEjected: number;
  };
  readonly timeouts: {
    /** Time for a policy engine of another process to answer before the ingress decides by its fallback. Read at the start. */
    readonly decideMs: number;
    readonly connectMs: number;
    readonly firstTokenMs: number;
    readonly idleStreamMs: number;
  };
}

export interface ExperimentConfig {
  readonly name: string;
  readonly model: string;
  readonly unit: "user" | "tenant" | "conversation" | "request";
  readonly layer: string;
  readonly arms: ReadonlyMap<
    string,
    {
      readonly weight: number;
      readonly backends: readonly string[] | undefined;
      readonly request: Readonly<Record<string, unknown>> | undefined;
    }
  >;
  /** Margins with the sign as written: `error_rate: +0.5pt` is 0.005 (points), `ttft: +10%` is 0.1 (a ratio), `quality: -2%` is -0.02. */
  readonly guards: {
    readonly errorRate: number | undefined;
    readonly ttft: number | undefined;
    readonly cost: number | undefined;
    readonly quality: number | undefined;
    readonly action: "rollback" | "pause" | "alert";
  };
  /** Share of traffic copied to an arm nobody sees, 0..1. */
  readonly shareShadow: number;
  /** What the copies may cost over the experiment's whole life. */
  readonly shadowBudgetNanoUsd: bigint;
  readonly steps: readonly number[];
  readonly judge:
    | { readonly model: string; readonly share: number; readonly budgetNanoUsd: bigint; readonly prompt: string | undefined }
    | undefined;
}

export interface BudgetConfig {
  readonly amountNanoUsd: bigint;
  readonly per: "day" | "month" | "total";
  readonly mode: "hard" | "soft";
  readonly alert: readonly number[];
  readonly team: string | undefined;
  readonly key: string | undefined;
}

export interface TenantConfig {
  readonly name: string;
  readonly teams: readonly string[];
  readonly budgets: readonly BudgetConfig[];
  readonly limits: {
    readonly rpm: number | undefined;
    readonly tpm: number | undefined;
    readonly concurrency: number | undefined;
    readonly weight: number;
  };
  /** Models allowed; undefined = all. */
  readonly models: readonly string[] | undefined;
}

export interface LedgerConfig {
  /** sqlite:PATH or postgres://... ; the text may hold a password, so it is a Secret. */
  readonly store: Secret;
  readonly outbox: {
    readonly dir: string;
    readonly maxBytes: number;
    readonly onFull: "block" | "memory";
    readonly durability: "strict" | "overlapped" | "relaxed";
  };
}

export interface TelemetryConfig {
  readonly captureContent: boolean;
  readonly traces: { readonly sample: number; readonly always: readonly ("error" | "failover" | "experiment")[] };
  /** Share of decision records kept, 0..1, and the size of their ring. */
  readonly decisions: { readonly share: number; readonly maxBytes: number };
}

export interface MeshConfig {
  readonly nats: { readonly url: Secret; readonly creds: Secret | undefined } | undefined;
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string } | undefined;
  /** Mesh addresses by role: host:port, or dns:///name:port. */
  readonly peers: ReadonlyMap<string, readonly string[]>;
  /** Where this process listens for the mesh. */
  readonly listen: ListenAddress;
  /** Address other processes reach this one at; undefined = listen. */
  readonly advertise: string | undefined;
}
