import type { UsageCounts } from "../engine/usage.ts";
import type { SimDialect } from "../profile.ts";

/** How one OpenAI-shaped server writes what the specification leaves open. */
export interface Flavour {
  /** Fields after `model` on every chunk and answer, each with a leading comma. */
  readonly identity: string;
  /** Fields of the first delta. */
  readonly firstDelta: string;
  /** Whether the role comes again in every delta. */
  readonly repeatsRole: boolean;
  /** Field that shows reasoning; undefined = hidden. */
  readonly reasoningField: string | undefined;
  /** Text after `logprobs` and `finish_reason` on ordinary chunks, and on the finish chunk (`?` = the matched stop as JSON). */
  readonly choiceExtra: string;
  readonly finishExtra: string;
  /** Delta of the finish chunk. */
  readonly finishDelta: string;
  /** Whether tool calls arrive whole instead of in fragments. */
  readonly wholeToolCalls: boolean;
  /** Whether chunks say `"usage":null` while usage is asked for. */
  readonly nullUsage: boolean;
  /** Fields of a whole answer's message beside role and content. */
  readonly messageExtra: Readonly<Record<string, unknown>>;
  /** Fields of a whole answer beside the usual. */
  readonly answerExtra: Readonly<Record<string, unknown>>;
}

const PLAIN: Flavour = {
  identity: "",
  firstDelta: `"role":"assistant","content":""`,
  repeatsRole: false,
  reasoningField: "reasoning_content",
  choiceExtra: "",
  finishExtra: "",
  finishDelta: "{}",
  wholeToolCalls: false,
  nullUsage: false,
  messageExtra: {},
  answerExtra: {},
};

const FLAVOURS: Readonly<Record<SimDialect, Flavour>> = {
  openai: {
    ...PLAIN,
    identity: `,"service_tier":"default","system_fingerprint":"fp_51635f0a9e"`,
    firstDelta: `"role":"assistant","content":"","refusal":null`,
    reasoningField: undefined,
    nullUsage: true,
    messageExtra: { annotations: [] },
    answerExtra: { service_tier: "default", system_fingerprint: "fp_51635f0a9e" },
  },
  vllm: {
    ...PLAIN,
    reasoningField: "reasoning",
    choiceExtra: `,"token_ids":null`,
    finishExtra: `,"stop_reason":?,"token_ids":null`,
    finishDelta: `{"content":""}`,
    messageExtra: { annotations: null, audio: null, function_call: null, reasoning: null },
    answerExtra: { service_tier: null, system_fingerprint: null, prompt_logprobs: null, prompt_token_ids: null, kv_transfer_params: null },
  },
  sglang: {
    ...PLAIN,
    choiceExtra: `,"matched_stop":null`,
    finishExtra: `,"matched_stop":?`,
    messageExtra: { reasoning_content: null },
    answerExtra: { metadata: { weight_version: "default" } },
  },
  llamacpp: {
    ...PLAIN,
    identity: `,"system_fingerprint":"b6700-simulated"`,
    firstDelta: `"role":"assistant","content":null`,
    answerExtra: { system_fingerprint: "b6700-simulated" },
  },
  ollama: {
    ...PLAIN,
    identity: `,"system_fingerprint":"fp_ollama"`,
    repeatsRole: true,
    reasoningField: "reasoning",
    finishDelta: `{"role":"assistant","content":""}`,
    wholeToolCalls: true,
    answerExtra: { system_fingerprint: "fp_ollama" },
  },
  tgi: {
    ...PLAIN,
    identity: `,"system_fingerprint":"3.3.6-sha-simulated"`,
    repeatsRole: true,
    nullUsage: true,
    finishDelta: `{"role":"assistant","content":""}`,
    answerExtra: { system_fingerprint: "3.3.6-sha-simulated" },
  },
  anthropic: PLAIN,
};

/** How a dialect writes OpenAI's shapes. */
export function flavourOf(dialect: SimDialect): Flavour {
  return FLAVOURS[dialect];
}

/** The usage object as the dialect's server states it. */
export function usageObject(dialect: SimDialect, usage: UsageCounts): Record<string, unknown> {
  const plain = { prompt_tokens: usage.prompt, completion_tokens: usage.output, total_tokens: usage.prompt + usage.output };
  const cached = usage.cache.read;
  switch (dialect) {
    case "openai":
      return {
        ...plain,
        prompt_tokens_details: { cached_tokens: cached, audio_tokens: 0 },
        completion_tokens_details: {
          reasoning_tokens: usage.reasoning,
          audio_tokens: 0,
          accepted_prediction_tokens: 0,
          rejected_prediction_tokens: 0,
        },
      };
    case "vllm":
      return { ...plain, prompt_tokens_details: cached > 0 ? { cached_tokens: cached } : null };
    case "sglang":
      return { ...plain, prompt_tokens_details: cached > 0 ? { cached_tokens: cached } : null, reasoning_tokens: usage.reasoning };
    case "llamacpp":
      return { ...plain, prompt_tokens_details: { cached_tokens: cached } };
    case "ollama":
    case "tgi":
    case "anthropic":
      return plain;
  }
}
