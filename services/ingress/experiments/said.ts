import { isObject, type JsonObject } from "../openai/parse.ts";
import { readEvents } from "../transcript.ts";

/** A tool call of an answer. */
export interface SaidCall {
  readonly name: string;
  /** As the model wrote them: JSON, or not. */
  readonly arguments: string;
}

/** What the first choice of a whole answer says. */
export interface Said {
  readonly text: string;
  /** Empty = it did not refuse. */
  readonly refusal: string;
  readonly calls: readonly SaidCall[];
  readonly finishReason: string;
}

/** Reads a whole OpenAI chat answer from the pieces it came in, streamed or not; undefined where it is none. Never throws. */
export function readSaid(pieces: readonly Uint8Array[], stream: boolean): Said | undefined {
  try {
    return stream ? readStream(pieces) : readBody(pieces);
  } catch {
    return undefined;
  }
}

function readBody(pieces: readonly Uint8Array[]): Said | undefined {
  const answer: unknown = JSON.parse(Buffer.concat(pieces).toString("utf8"));
  const choices = isObject(answer) ? answer["choices"] : undefined;
  const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
  if (!isObject(choice) || !isObject(choice["message"])) return undefined;
  const message = choice["message"];
  const calls = listOf(message["tool_calls"]).map((call): SaidCall => {
    const definition = isObject(call["function"]) ? call["function"] : {};
    return { name: textOf(definition["name"]), arguments: textOf(definition["arguments"]) };
  });
  return { text: textOf(message["content"]), refusal: textOf(message["refusal"]), calls, finishReason: textOf(choice["finish_reason"]) };
}

/** What the deltas of a stream add up to. */
class Sum {
  readonly texts: string[] = [];
  readonly refusals: string[] = [];
  readonly calls: { name: string; arguments: string }[] = [];
  finishReason = "";

  add(choice: JsonObject): void {
    if ((choice["index"] ?? 0) !== 0) return;
    this.finishReason = textOf(choice["finish_reason"]) || this.finishReason;
    const delta = choice["delta"];
    if (!isObject(delta)) return;
    this.texts.push(textOf(delta["content"]));
    this.refusals.push(textOf(delta["refusal"]));
    for (const [place, part] of listOf(delta["tool_calls"]).entries()) this.#call(part, place);
  }

  #call(part: JsonObject, place: number): void {
    const index = typeof part["index"] === "number" && part["index"] >= 0 ? part["index"] : place;
    if (index > this.calls.length) return;
    const call = (this.calls[index] ??= { name: "", arguments: "" });
    const definition = isObject(part["function"]) ? part["function"] : {};
    call.name += textOf(definition["name"]);
    call.arguments += textOf(definition["arguments"]);
  }
}

function readStream(pieces: readonly Uint8Array[]): Said | undefined {
  const sum = new Sum();
  let seen = false;
  for (const piece of pieces) {
    for (const { chunk } of readEvents(piece)) {
      if (chunk === undefined) continue;
      seen = true;
      for (const choice of listOf(chunk["choices"])) sum.add(choice);
    }
  }
  if (!seen) return undefined;
  return { text: sum.texts.join(""), refusal: sum.refusals.join(""), calls: sum.calls, finishReason: sum.finishReason };
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function listOf(value: unknown): readonly JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
