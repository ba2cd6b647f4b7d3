import type { CapabilityName, ClassName, ProviderName } from "./model.ts";

/** Every provider word, in the order help texts list them. */
export const PROVIDER_NAMES = [
  "vllm",
  "sglang",
  "llamacpp",
  "tgi",
  "ollama",
  "openai",
  "openai-compatible",
  "azure",
  "anthropic",
  "gemini",
  "bedrock",
  "groq",
  "mistral",
  "deepseek",
  "xai",
  "openrouter",
  "together",
  "fireworks",
] as const satisfies readonly ProviderName[];

/** Every capability word. */
export const CAPABILITY_NAMES = [
  "tools",
  "vision",
  "json_schema",
  "audio",
  "pdf",
  "logprobs",
  "n",
  "json_object",
  "parallel_tools",
  "reasoning",
  "embeddings",
  "completions",
  "prefill",
  "streaming",
] as const satisfies readonly CapabilityName[];

/** Request classes, most urgent first. */
export const CLASS_NAMES = ["interactive", "standard", "batch"] as const satisfies readonly ClassName[];

/** Roles a mesh process may take; `provider-adapters` may be followed by `:DIALECT`. */
export const ROLE_NAMES = ["ingress", "policy-engine", "health-monitor", "cost-ledger", "provider-adapters", "console"] as const;

/** Whether `value` is a provider word. */
export function isProviderName(value: unknown): value is ProviderName {
  return (PROVIDER_NAMES as readonly unknown[]).includes(value);
}
