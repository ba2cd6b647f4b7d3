import type { Call } from "../engine/call.ts";
import type { Choice, Generation, Step } from "../engine/generate.ts";
import type { AnswerFrame, StreamRenderer } from "../engine/render.ts";
import { PromptMeter } from "../engine/tokens.ts";
import { isObject, type JsonObject, objectOf } from "../http/json.ts";
import type { SimBackendProfile } from "../profile.ts";
import { readStops } from "./chat-call.ts";
import { checkFields, COMPLETION_FIELDS, typeProblem } from "./fields.ts";
import { flavourOf } from "./flavour.ts";
import { invalid, type Problem } from "./problem.ts";
import { usageTexts } from "./usage-text.ts";

/** Tokens of a legacy completion when nobody says. */
const DEFAULT_TOKENS = 16;

/** Reads a legacy completion request. Several prompts give several choices, as `n` does. */
export function readCompletionCall(body: JsonObject, profile: SimBackendProfile): Call | Problem {
  const problem = checkFields(profile.dialect, body, COMPLETION_FIELDS, ["model"]);
  if (problem) return problem;
  const prompts = readPrompts(body["prompt"]);
  if (prompts === undefined)
    return typeProblem("prompt", "one of a string, array of strings, array of integers, or array of arrays", body["prompt"]);
  const stops = readStops(body["stop"]);
  if ("status" in stops) return stops;
  const stream = body["stream"] === true;
  if (isObject(body["stream_options"]) && !stream) {
    return invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", null);
  }
  const meter = new PromptMeter();
  for (const prompt of prompts) meter.add(prompt);
  return {
    model: body["model"] as string,
    stream,
    obfuscates: false,
    wantsUsage: objectOf(body["stream_options"])["include_usage"] === true,
    choices: (typeof body["n"] === "number" ? body["n"] : 1) * prompts.length,
    maxTokens: typeof body["max_tokens"] === "number" ? body["max_tokens"] : DEFAULT_TOKENS,
    stops: stops.stops,
    meter,
    serviceTier: undefined,
    seed: typeof body["seed"] === "number" ? body["seed"] : 0,
    lastUserText: prompts.at(-1) ?? "",
    endsWithUser: true,
    tools: [],
    toolChoice: "none",
    parallelTools: false,
    format: "text",
    reasoningTokens: 0,
    prefill: undefined,
    priority: typeof body["priority"] === "number" ? body["priority"] : 0,
    cache: "auto",
    topLogprobs: -1,
  };
}

function readPrompts(prompt: unknown): readonly string[] | undefined {
  if (prompt === undefined || prompt === null) return ["<|endoftext|>"];
  if (typeof prompt === "string") return [prompt];
  if (!Array.isArray(prompt) || prompt.length === 0) return undefined;
  if (prompt.every((item) => typeof item === "string")) return prompt;
  if (prompt.every((item) => Number.isInteger(item))) return [textOfTokens(prompt as number[])];
  if (prompt.every((item) => Array.isArray(item))) return prompt.map((item) => textOfTokens(item as number[]));
  return undefined;
}

/** Stands for a prompt of token numbers: as many tokens, told apart by their numbers. */
export function textOfTokens(tokens: readonly number[]): string {
  return tokens.map((token) => (token % 10_000).toString().padStart(4, "0")).join("");
}

/** Writes a legacy completion stream. */
export class CompletionStream implements StreamRenderer {
  readonly #call: Call;
  readonly #generation: Generation;
  readonly #frame: AnswerFrame;
  readonly #head: string;
  readonly #tail: string;

  constructor(call: Call, generation: Generation, frame: AnswerFrame) {
    this.#call = call;
    this.#generation = generation;
    this.#frame = frame;
    this.#head = `data: {"id":"${frame.id}","object":"text_completion","created":${frame.createdS},"model":${JSON.stringify(frame.model)},"choices":[`;
    this.#tail = call.wantsUsage && flavourOf(frame.dialect).nullUsage ? `],"usage":null}\n\n` : "]}\n\n";
  }

  open(): string {
    return "";
  }

  step(step: Step): string {
    const piece = this.#generation.choices[step.choice]!.parts[step.part]!.pieces[step.piece]!;
    return this.#chunk(step.choice, piece, "null");
  }

  closeChoice(index: number): string {
    return this.#chunk(index, "", `"${finishOf(this.#generation.choices[index]!)}"`);
  }

  usage(): string {
    const { plan, dialect, usage } = this.#frame;
    if (!this.#call.wantsUsage || plan.usage === "absent") return "";
    return usageTexts(dialect, usage, plan.usage)
      .map((text) => `${this.#head}],"usage":${text}}\n\n`)
      .join("");
  }

  done(): string {
    return "data: [DONE]\n\n";
  }

  error(): string {
    return `data: {"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}\n\n`;
  }

  #chunk(index: number, text: string, finish: string): string {
    return `${this.#head}{"index":${index},"text":${JSON.stringify(text)},"logprobs":null,"finish_reason":${finish}}${this.#tail}`;
  }
}

function finishOf(choice: Choice): string {
  return choice.finish === "length" ? "length" : "stop";
}

/** Writes a whole legacy completion. */
export function completionJson(_call: Call, generation: Generation, frame: AnswerFrame): string {
  const choices = generation.choices.map((choice, index) => {
    const text = choice.parts.map((part) => part.pieces.join("")).join("");
    return { index, text, logprobs: null, finish_reason: finishOf(choice) };
  });
  const usage = usageTexts(frame.dialect, frame.usage, frame.plan.usage).at(-1);
  const answer = { id: frame.id, object: "text_completion", created: frame.createdS, model: frame.model, choices };
  return JSON.stringify(frame.plan.usage === "absent" ? answer : { ...answer, usage: JSON.parse(usage ?? "null") as object });
}
