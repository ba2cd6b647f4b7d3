import type { CapabilityName, ProviderName } from "#libs/config/model.ts";
import type { SimBackendProfile, SimDialect } from "./profile.ts";
import type { SimAddress } from "./simulator.ts";

const LLAMA = "meta-llama/Llama-3.3-70B-Instruct";
const CLOUD_CAPABILITIES: readonly CapabilityName[] = [
  "tools",
  "parallel_tools",
  "vision",
  "json_schema",
  "json_object",
  "reasoning",
  "streaming",
];
const GPU_CAPABILITIES: readonly CapabilityName[] = [
  "tools",
  "parallel_tools",
  "json_schema",
  "json_object",
  "logprobs",
  "n",
  "completions",
  "prefill",
  "streaming",
];

/**
 * The backends of `signalbox dev`: two GPU servers of different speed, an OpenAI and an Anthropic account. Quick enough to
 * play with (first token 20-80 ms, then 3-10 ms a token), slow enough to see.
 */
export function devProfiles(): SimBackendProfile[] {
  return [
    {
      name: "sim-gpu-a",
      dialect: "vllm",
      model: LLAMA,
      contextTokens: 131_072,
      maxOutputTokens: 16_384,
      capabilities: GPU_CAPABILITIES,
      // An H100 at half its iteration time: base 7 ms, prefill 0.033, decode 0.05, KV 4.5e-5.
      speed: {
        kind: "engine",
        overheadMs: 18,
        baseMs: 3.5,
        prefillMsPerToken: 0.0165,
        decodeMsPerSequence: 0.025,
        kvMsPerToken: 2.25e-5,
        maxSequences: 64,
        kvCapacityTokens: 430_000,
        sigma: 0.15,
      },
      price: { per_hour: "$1.90" },
      labels: { zone: "dc1", residency: "eu" },
    },
    {
      name: "sim-gpu-b",
      dialect: "vllm",
      model: LLAMA,
      contextTokens: 131_072,
      maxOutputTokens: 16_384,
      capabilities: GPU_CAPABILITIES,
      // An L40S at 0.4 of its iteration time: base 20 ms, prefill 0.11, decode 0.10, KV 1.5e-4.
      speed: {
        kind: "engine",
        overheadMs: 28,
        baseMs: 8,
        prefillMsPerToken: 0.044,
        decodeMsPerSequence: 0.04,
        kvMsPerToken: 6e-5,
        maxSequences: 32,
        kvCapacityTokens: 180_000,
        sigma: 0.15,
      },
      price: { per_hour: "$0.80" },
      labels: { zone: "dc2", residency: "eu" },
    },
    {
      name: "sim-openai",
      dialect: "openai",
      model: "gpt-5-mini",
      aliases: ["text-embedding-3-small"],
      contextTokens: 400_000,
      maxOutputTokens: 128_000,
      capabilities: [...CLOUD_CAPABILITIES, "logprobs", "n", "embeddings"],
      speed: { kind: "cloud", ttftMs: 55, ttftSigma: 0.3, itlMs: 5, itlSigma: 0.3 },
      limits: { rpm: 10_000, tpm: 4_000_000 },
      price: { per_million: { input: "$0.25", cache_read: "$0.025", output: "$2.00" } },
      labels: { residency: "us" },
    },
    {
      name: "sim-claude",
      dialect: "anthropic",
      model: "claude-haiku-4-5",
      contextTokens: 200_000,
      maxOutputTokens: 64_000,
      capabilities: [...CLOUD_CAPABILITIES, "pdf", "prefill"],
      speed: { kind: "cloud", ttftMs: 70, ttftSigma: 0.3, itlMs: 7, itlSigma: 0.3 },
      limits: { rpm: 4_000, tpm: 2_000_000 },
      price: { per_million: { input: "$1.00", cache_read: "$0.10", cache_write: "$1.25", cache_write_1h: "$2.00", output: "$5.00" } },
      labels: { residency: "us" },
    },
  ];
}

/** One backend as the configuration file would write it. */
export interface DevBackend {
  readonly name: string;
  readonly provider: ProviderName;
  /** The SDK's base URL: with `/v1` for OpenAI's shape, without for Anthropic's. */
  readonly url: string;
  readonly model: string;
  /** Context window and most output, tokens. */
  readonly context: number;
  readonly max_output: number;
  readonly capabilities: readonly CapabilityName[];
  /** Root of the engine's `/metrics`; undefined where there is none. */
  readonly metrics: { readonly url: string } | undefined;
  readonly limits: { readonly rpm?: number; readonly tpm?: number } | undefined;
  /** `price` as the configuration writes it: amounts with `$`. */
  readonly price: Readonly<Record<string, string | Readonly<Record<string, string>>>> | undefined;
  readonly labels: Readonly<Record<string, string>>;
}

const WITH_METRICS: readonly SimDialect[] = ["vllm", "sglang", "llamacpp", "tgi"];

/** Configuration entries for simulated backends at their addresses: plain data, in the words of `signalbox.yaml`. */
export function devBackends(
  addresses: ReadonlyMap<string, SimAddress>,
  profiles: readonly SimBackendProfile[] = devProfiles(),
): DevBackend[] {
  const backends: DevBackend[] = [];
  for (const profile of profiles) {
    const address = addresses.get(profile.name);
    if (!address) continue;
    const { rpm, tpm } = profile.limits ?? {};
    backends.push({
      name: profile.name,
      provider: profile.dialect,
      url: profile.dialect === "anthropic" ? address.url : `${address.url}/v1`,
      model: profile.model,
      context: profile.contextTokens,
      max_output: profile.maxOutputTokens,
      capabilities: profile.capabilities,
      metrics: WITH_METRICS.includes(profile.dialect) ? { url: `${address.url}/metrics` } : undefined,
      limits:
        rpm === undefined && tpm === undefined
          ? undefined
          : { ...(rpm === undefined ? {} : { rpm }), ...(tpm === undefined ? {} : { tpm }) },
      price: profile.price,
      labels: profile.labels ?? {},
    });
  }
  return backends;
}
