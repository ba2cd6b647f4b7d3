import { scanTopLevel, spliceTopLevel } from "#libs/json-bytes/index.ts";
import { type AnswerFacts, attemptError, type DecodeContext, type DecodedBody } from "../codec.ts";
import { flattenContent, saidBytes } from "./content.ts";
import { finishReasonOf } from "./finish.ts";
import { isErrorObject, mapErrorInside } from "./map-error.ts";
import { isObject, type Loose, normalizeUsage, openaiUsage } from "./usage.ts";

const EMPTY = new Uint8Array(0);

const NO_FACTS: AnswerFacts = {
  usage: undefined,
  finishReason: "",
  upstreamModel: "",
  responseId: "",
  contentBytes: 0,
  contentEvents: 0,
};

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function failed(message: string): DecodedBody {
  return { body: EMPTY, facts: NO_FACTS, error: attemptError("UPSTREAM_PROTOCOL", message, { httpStatus: 200 }), garbage: false };
}

/** A whole chat completion: parsed once, passed on as it came unless something in it must not leave us as it is. */
export function decodeBody(context: DecodeContext, body: Uint8Array): DecodedBody {
  let answer: unknown;
  try {
    answer = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8"));
  } catch {
    return failed("The provider's answer is not JSON.");
  }
  if (!isObject(answer)) return failed("The provider's answer is not a JSON object.");
  if (isErrorObject(answer)) return { body: EMPTY, facts: NO_FACTS, error: mapErrorInside(answer), garbage: false };
  if (!Array.isArray(answer["choices"]) || answer["choices"].length === 0) return failed("The provider's answer has no choices.");
  const members: Record<string, unknown> = {};
  const read = readChoices(answer["choices"]);
  if (read === undefined) return failed("The provider's answer is an unfinished or broken choice.");
  if (read.changed) members["choices"] = read.choices;
  const usage = normalizeUsage(answer["usage"], answer["service_tier"]);
  if (usage?.anomaly === true) members["usage"] = openaiUsage(usage);
  if (textOf(answer["id"]) === "") members["id"] = `chatcmpl-${context.open.attemptId}`;
  if (answer["object"] !== "chat.completion") members["object"] = "chat.completion";
  if (!(typeof answer["created"] === "number" && answer["created"] > 0)) members["created"] = Math.floor(context.nowMs / 1000);
  return {
    body: replaced(body, answer, members),
    facts: {
      usage,
      finishReason: read.finishReason,
      upstreamModel: textOf(answer["model"]),
      responseId: textOf(answer["id"]),
      contentBytes: read.contentBytes,
      contentEvents: 0,
    },
    error: undefined,
    garbage: read.contentBytes === 0 && read.finishReason !== "content_filter" && read.finishReason !== "length",
  };
}

interface ReadChoices {
  readonly choices: readonly unknown[];
  readonly changed: boolean;
  readonly finishReason: string;
  readonly contentBytes: number;
}

/** The choices with their finish reasons and content in our words; undefined when one is no choice or says that it failed. */
function readChoices(choices: readonly unknown[]): ReadChoices | undefined {
  let changed = false;
  let finishReason = "";
  let contentBytes = 0;
  const out: unknown[] = [];
  for (const choice of choices) {
    if (!isObject(choice) || !isObject(choice["message"])) return undefined;
    const message = flattenContent(choice["message"]);
    contentBytes += saidBytes(message);
    const word =
      textOf(choice["finish_reason"]) || (Array.isArray(message["tool_calls"]) && message["tool_calls"].length > 0 ? "tool_calls" : "stop");
    const reason = finishReasonOf(word);
    if (reason === undefined) return undefined;
    if (finishReason === "") finishReason = reason;
    const same = message === choice["message"] && reason === choice["finish_reason"];
    out.push(same ? choice : { ...choice, message, finish_reason: reason });
    changed ||= !same;
  }
  return { choices: out, changed, finishReason, contentBytes };
}

function replaced(body: Uint8Array, answer: Loose, members: Loose): Uint8Array {
  const edits = new Map<string, Uint8Array | null>();
  for (const name in members) edits.set(name, Buffer.from(JSON.stringify(members[name])));
  if (edits.size === 0) return body;
  const fields = scanTopLevel(body);
  return fields === undefined ? Buffer.from(JSON.stringify({ ...answer, ...members })) : spliceTopLevel(body, fields, edits);
}
