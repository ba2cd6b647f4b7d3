import type { Call } from "../engine/call.ts";
import type { Choice, Generation, Part, Step } from "../engine/generate.ts";
import type { AnswerFrame, StreamRenderer } from "../engine/render.ts";
import { flavourOf, type Flavour } from "./flavour.ts";
import { logprobsOf } from "./logprobs.ts";
import { usageTexts } from "./usage-text.ts";

/** Padding that hides lengths of deltas; any characters do. */
const PADDING = "aZ3kQ9xW2mV7bN5cR8tY4uI";

const FINISH: Readonly<Record<Choice["finish"], string>> = { stop: "stop", length: "length", tool_calls: "tool_calls", refusal: "stop" };

/** Writes a chat completion stream chunk by chunk. */
export class ChatStream implements StreamRenderer {
  readonly #call: Call;
  readonly #generation: Generation;
  readonly #frame: AnswerFrame;
  readonly #flavour: Flavour;
  readonly #head: string;
  readonly #tail: string;
  readonly #obfuscates: boolean;
  #chunks = 0;

  constructor(call: Call, generation: Generation, frame: AnswerFrame) {
    this.#call = call;
    this.#generation = generation;
    this.#frame = frame;
    this.#flavour = flavourOf(frame.dialect);
    this.#head = `data: {"id":"${frame.id}","object":"chat.completion.chunk","created":${frame.createdS},"model":${JSON.stringify(frame.model)}${identityOf(this.#flavour, call)},"choices":[`;
    this.#tail = `]${call.wantsUsage && this.#flavour.nullUsage ? `,"usage":null` : ""}`;
    this.#obfuscates = frame.obfuscates;
  }

  open(): string {
    let text = this.#frame.plan.has("empty_choices_first") ? this.#chunk("") : "";
    for (let index = 0; index < this.#generation.choices.length; index++) text += this.#delta(index, this.#flavour.firstDelta, "null");
    return this.#frame.plan.usage === "early" ? text + this.#usage("early") : text;
  }

  step(step: Step): string {
    const choice = this.#generation.choices[step.choice]!;
    const part = choice.parts[step.part]!;
    if (part.kind === "tool") return this.#toolDelta(step, choice, part);
    const piece = part.pieces[step.piece]!;
    if (part.kind === "reasoning") {
      const field = this.#flavour.reasoningField;
      return field === undefined ? "" : this.#delta(step.choice, `"${field}":${JSON.stringify(piece)}`, "null");
    }
    const field = choice.finish === "refusal" ? "refusal" : "content";
    const role = this.#flavour.repeatsRole ? `"role":"assistant",` : "";
    const logprobs =
      this.#call.topLogprobs < 0 ? "null" : JSON.stringify({ content: [logprobsOf(piece, this.#call.topLogprobs)], refusal: null });
    const text = this.#delta(step.choice, `${role}"${field}":${JSON.stringify(piece)}`, logprobs);
    return this.#frame.plan.has("dup_chunk") && step.piece === 1 ? text + text : text;
  }

  closeChoice(index: number): string {
    const choice = this.#generation.choices[index]!;
    const extra = this.#flavour.finishExtra.replace("?", choice.stopMatched === undefined ? "null" : JSON.stringify(choice.stopMatched));
    const body = `{"index":${index},"delta":${this.#flavour.finishDelta},"logprobs":null,"finish_reason":"${FINISH[choice.finish]}"${extra}}`;
    return this.#chunk(body, this.#frame.dialect === "llamacpp" ? `,"timings":${this.#timings()}` : "");
  }

  usage(): string {
    const { usage } = this.#frame.plan;
    if (!this.#call.wantsUsage || usage === "absent" || usage === "early") return "";
    return this.#usage(usage);
  }

  done(): string {
    return "data: [DONE]\n\n";
  }

  error(): string {
    const body = `{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}`;
    return `data: ${body}\n\n`;
  }

  #usage(mode: AnswerFrame["plan"]["usage"]): string {
    let text = "";
    const timings = this.#frame.dialect === "llamacpp" ? `,"timings":${this.#timings()}` : "";
    for (const usage of usageTexts(this.#frame.dialect, this.#frame.usage, mode)) {
      text += `${this.#head}],"usage":${usage}${timings}${this.#padding()}}\n\n`;
    }
    return text;
  }

  #toolDelta(step: Step, choice: Choice, part: Extract<Part, { kind: "tool" }>): string {
    let index = 0;
    for (let before = 0; before < step.part; before++) if (choice.parts[before]!.kind === "tool") index++;
    const names = `"index":${index},"id":"${part.id}","type":"function","function":{"name":${JSON.stringify(part.name)},"arguments":`;
    if (this.#flavour.wholeToolCalls) {
      if (step.piece < part.pieces.length - 1) return "";
      return this.#delta(
        step.choice,
        `"role":"assistant","content":"","tool_calls":[{${names}${JSON.stringify(part.pieces.join(""))}}}]`,
        "null",
      );
    }
    const first = step.piece === 0 ? this.#delta(step.choice, `"tool_calls":[{${names}""}}]`, "null") : "";
    const piece = JSON.stringify(part.pieces[step.piece]!);
    return first + this.#delta(step.choice, `"tool_calls":[{"index":${index},"function":{"arguments":${piece}}}]`, "null");
  }

  #delta(choice: number, delta: string, logprobs: string): string {
    return this.#chunk(`{"index":${choice},"delta":{${delta}},"logprobs":${logprobs},"finish_reason":null${this.#flavour.choiceExtra}}`);
  }

  #chunk(choices: string, extra = ""): string {
    return `${this.#head}${choices}${this.#tail}${extra}${this.#padding()}}\n\n`;
  }

  #padding(): string {
    return this.#obfuscates ? `,"obfuscation":"${PADDING.slice(this.#chunks++ % 17)}"` : "";
  }

  #timings(): string {
    const { usage } = this.#frame;
    return JSON.stringify({
      cache_n: usage.cache.read,
      prompt_n: usage.prompt - usage.cache.read,
      prompt_ms: 20,
      predicted_n: usage.output,
      predicted_ms: usage.output * 5,
    });
  }
}

/** Writes a whole chat completion. */
export function chatJson(call: Call, generation: Generation, frame: AnswerFrame): string {
  const flavour = flavourOf(frame.dialect);
  const choices = generation.choices.map((choice, index) => {
    const calls = choice.parts.filter((part) => part.kind === "tool");
    const text = textOf(choice, "text");
    const reasoning = textOf(choice, "reasoning");
    const field = flavour.reasoningField;
    const message: Record<string, unknown> = {
      role: "assistant",
      content: calls.length > 0 || choice.finish === "refusal" ? null : text,
      refusal: choice.finish === "refusal" ? text : null,
      ...flavour.messageExtra,
      ...(field !== undefined && reasoning !== "" ? { [field]: reasoning } : {}),
    };
    if (calls.length > 0) {
      message["tool_calls"] = calls.map((part) => ({
        id: part.id,
        type: "function",
        function: { name: part.name, arguments: part.pieces.join("") },
      }));
    }
    const extra = flavour.finishExtra === "" ? undefined : finishFields(flavour, choice);
    const finish = frame.plan.finish === "none" ? null : FINISH[choice.finish];
    return { index, message, logprobs: choiceLogprobs(call, choice), finish_reason: finish, ...extra };
  });
  const usage = frame.plan.usage === "absent" ? undefined : usageTexts(frame.dialect, frame.usage, frame.plan.usage).at(-1);
  const answer: Record<string, unknown> = {
    id: frame.id,
    object: "chat.completion",
    created: frame.createdS,
    model: frame.model,
    choices,
    ...flavour.answerExtra,
    ...(call.serviceTier === undefined || frame.dialect !== "openai" ? undefined : { service_tier: call.serviceTier }),
  };
  const text = JSON.stringify(answer);
  return usage === undefined ? text : `${text.slice(0, -1)},"usage":${usage}}`;
}

function identityOf(flavour: Flavour, call: Call): string {
  const tier = call.serviceTier;
  return tier === undefined ? flavour.identity : flavour.identity.replace(`"service_tier":"default"`, `"service_tier":"${tier}"`);
}

function finishFields(flavour: Flavour, choice: Choice): object {
  return JSON.parse(`{${flavour.finishExtra.replace("?", JSON.stringify(choice.stopMatched ?? null)).slice(1)}}`) as object;
}

function textOf(choice: Choice, kind: "text" | "reasoning"): string {
  let text = "";
  for (const part of choice.parts) if (part.kind === kind) text += part.pieces.join("");
  return text;
}

function choiceLogprobs(call: Call, choice: Choice): object | null {
  if (call.topLogprobs < 0) return null;
  const pieces = choice.parts.flatMap((part) => (part.kind === "text" ? part.pieces : []));
  return { content: pieces.map((piece) => logprobsOf(piece, call.topLogprobs)), refusal: null };
}
