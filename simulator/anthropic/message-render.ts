import type { Choice, Generation, Part, Step } from "../engine/generate.ts";
import type { AnswerFrame, StreamRenderer } from "../engine/render.ts";
import type { UsageCounts } from "../engine/usage.ts";

/** Data lines are padded to hide lengths, as recorded streams are. */
const PADDING = "                     ";

/** Deltas between pings. */
const PING_EVERY = 40;

const SIGNATURE = "EqQBCkYICxgCKkDsimulatedsignature0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

const STOP_REASONS: Readonly<Record<Choice["finish"], string>> = {
  stop: "end_turn",
  length: "max_tokens",
  tool_calls: "tool_use",
  refusal: "refusal",
};

const REFUSAL_DETAILS = { type: "refusal", category: "other", explanation: "The simulated model was told to refuse this request." };

/** Usage at the start of a stream: everything about the prompt, and the first token. */
function startUsage(usage: UsageCounts, output: number): Record<string, unknown> {
  const { read, write5m, write1h } = usage.cache;
  return {
    input_tokens: usage.prompt - read - write5m - write1h,
    cache_creation_input_tokens: write5m + write1h,
    cache_read_input_tokens: read,
    cache_creation: { ephemeral_5m_input_tokens: write5m, ephemeral_1h_input_tokens: write1h },
    output_tokens: output,
    service_tier: "standard",
    inference_geo: "not_available",
  };
}

/** Cumulative usage at the end of a stream, as a fault may bend it. */
function endUsage(frame: AnswerFrame): string {
  const { usage, plan } = frame;
  const { read, write5m, write1h } = usage.cache;
  if (plan.usage === "huge") return `{"input_tokens":1e308,"output_tokens":99999999999999999999}`;
  const honest = {
    input_tokens: usage.prompt - read - write5m - write1h,
    cache_creation_input_tokens: write5m + write1h,
    cache_read_input_tokens: read,
    output_tokens: usage.output,
    ...(usage.reasoning > 0 ? { output_tokens_details: { thinking_tokens: usage.reasoning } } : {}),
  };
  return JSON.stringify(
    plan.usage === "inconsistent" ? { ...honest, cache_read_input_tokens: usage.prompt + 161, output_tokens: 0 } : honest,
  );
}

/** Writes a Messages stream: message_start, the blocks, message_delta, message_stop, and pings between. */
export class MessageStream implements StreamRenderer {
  readonly #generation: Generation;
  readonly #frame: AnswerFrame;
  #events = 0;

  constructor(generation: Generation, frame: AnswerFrame) {
    this.#generation = generation;
    this.#frame = frame;
  }

  open(): string {
    const frame = this.#frame;
    const usage = frame.plan.usage === "absent" ? {} : { usage: startUsage(frame.usage, Math.min(1, frame.usage.output)) };
    const message = {
      model: frame.model,
      id: frame.id,
      type: "message",
      role: "assistant",
      content: [],
      stop_reason: null,
      stop_sequence: null,
      ...usage,
    };
    return this.#event("message_start", `{"type":"message_start","message":${JSON.stringify(message)}`);
  }

  step(step: Step): string {
    const choice = this.#generation.choices[0]!;
    const part = choice.parts[step.part]!;
    const piece = part.pieces[step.piece]!;
    let text = step.piece === 0 ? this.#start(step.part, part) : "";
    // A call without arguments has no delta but an empty one.
    const shown = part.kind === "tool" && part.pieces.length === 1 && piece === "{}" ? "" : piece;
    const delta = this.#delta(step.part, deltaOf(part, shown));
    text += this.#frame.plan.has("dup_chunk") && step.piece === 1 ? delta + delta : delta;
    if (this.#events % PING_EVERY === 0) text += this.#ping();
    return step.piece === part.pieces.length - 1 ? text + this.#stop(step.part, part) : text;
  }

  closeChoice(): string {
    const frame = this.#frame;
    const choice = this.#generation.choices[0]!;
    const reason = choice.stopMatched === undefined ? STOP_REASONS[choice.finish] : "stop_sequence";
    const details = choice.finish === "refusal" ? { stop_details: REFUSAL_DETAILS } : {};
    const delta = JSON.stringify({ stop_reason: reason, stop_sequence: choice.stopMatched ?? null, ...details });
    const usage = frame.plan.usage === "absent" || frame.plan.usage === "early" ? "" : `,"usage":${endUsage(frame)}`;
    const event = this.#event("message_delta", `{"type":"message_delta","delta":${delta}${usage}`);
    return frame.plan.usage === "twice" ? event + event : event;
  }

  usage(): string {
    return "";
  }

  done(): string {
    return this.#event("message_stop", `{"type":"message_stop"`);
  }

  error(): string {
    return `event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n`;
  }

  #start(index: number, part: Part): string {
    const block =
      part.kind === "text"
        ? `{"type":"text","text":""}`
        : part.kind === "reasoning"
          ? `{"type":"thinking","thinking":"","signature":""}`
          : `{"type":"tool_use","id":"${part.id}","name":${JSON.stringify(part.name)},"input":{}}`;
    const start = this.#event("content_block_start", `{"type":"content_block_start","index":${index},"content_block":${block}`);
    return index === 0 ? start + this.#ping() : start;
  }

  #stop(index: number, part: Part): string {
    const signature = part.kind === "reasoning" ? this.#delta(index, `{"type":"signature_delta","signature":"${SIGNATURE}"}`) : "";
    return signature + this.#event("content_block_stop", `{"type":"content_block_stop","index":${index}`);
  }

  #delta(index: number, delta: string): string {
    return this.#event("content_block_delta", `{"type":"content_block_delta","index":${index},"delta":${delta}`);
  }

  #ping(): string {
    return `event: ping\ndata: {"type": "ping"}\n\n`;
  }

  /** `json` lacks its closing brace, before which the padding goes. */
  #event(name: string, json: string): string {
    return `event: ${name}\ndata: ${json}${PADDING.slice(0, (this.#events++ * 7) % PADDING.length)}}\n\n`;
  }
}

function deltaOf(part: Part, piece: string): string {
  const text = JSON.stringify(piece);
  if (part.kind === "text") return `{"type":"text_delta","text":${text}}`;
  return part.kind === "reasoning" ? `{"type":"thinking_delta","thinking":${text}}` : `{"type":"input_json_delta","partial_json":${text}}`;
}

/** Writes a whole message. */
export function messageJson(generation: Generation, frame: AnswerFrame): string {
  const choice = generation.choices[0]!;
  const content = choice.parts.map((part) => {
    const text = part.pieces.join("");
    if (part.kind === "text") return { type: "text", text };
    if (part.kind === "reasoning") return { type: "thinking", thinking: text, signature: SIGNATURE };
    return { type: "tool_use", id: part.id, name: part.name, input: inputOf(text) };
  });
  const { usage, plan } = frame;
  const stated = startUsage(usage, usage.output);
  if (usage.reasoning > 0) stated["output_tokens_details"] = { thinking_tokens: usage.reasoning };
  if (plan.usage === "inconsistent") stated["cache_read_input_tokens"] = usage.prompt + 161;
  const reason = choice.stopMatched === undefined ? STOP_REASONS[choice.finish] : "stop_sequence";
  return JSON.stringify({
    model: frame.model,
    id: frame.id,
    type: "message",
    role: "assistant",
    content: content.filter((block) => block.type !== "text" || block.text !== ""),
    stop_reason: plan.finish === "none" ? null : reason,
    ...(choice.finish === "refusal" ? { stop_details: REFUSAL_DETAILS } : {}),
    stop_sequence: choice.stopMatched ?? null,
    ...(plan.usage === "absent" ? {} : { usage: stated }),
  });
}

/** A call cut by the token limit has arguments that do not parse; Anthropic then shows what it has as nothing. */
function inputOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
