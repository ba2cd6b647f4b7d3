import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type AnswerReview, Operation, Outcome, SchemaCheck, ToolAgreement } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CAPABILITY_BITS } from "#libs/capability/index.ts";
import { type Fields, fieldValue } from "#libs/json-bytes/index.ts";
import { isSame, keepsToSchema } from "#libs/json-schema/index.ts";
import type { Intake } from "../intake.ts";
import { isObject } from "../openai/parse.ts";
import type { Collected } from "./collected.ts";
import type { Said, SaidCall } from "./said.ts";
import { readSaid } from "./said.ts";

const TOOLS = 1 << CAPABILITY_BITS.tools;

/**
 * What the answer of an attempt was like; undefined where it did not come whole or is no chat. Content is read only where the
 * request asked for a format or offered tools: other answers say enough by how they end.
 */
export function reviewAnswer(intake: Intake, end: AttemptEnd, { body, pieces, refused }: Collected): AnswerReview | undefined {
  if (end.outcome !== Outcome.OK || intake.decide.operation !== Operation.CHAT) return undefined;
  const format = formatOf(body, intake.fields);
  const compared = intake.internal?.compare;
  const isRead = pieces !== undefined && (format !== undefined || compared !== undefined || (intake.decide.needs & TOOLS) !== 0);
  const said = isRead ? readSaid(pieces, intake.stream) : undefined;
  const filtered = end.finishReason === "content_filter";
  return {
    $typeName: "signalbox.policy.v1.AnswerReview",
    empty: end.garbage,
    refused: filtered || (said === undefined ? refused : said.refusal !== ""),
    schema: said === undefined || format === undefined ? SchemaCheck.UNSPECIFIED : checkFormat(said, format),
    textBytes: end.contentBytes,
    toolCalls: said?.calls.length ?? 0,
    toolAgreement: said === undefined || compared === undefined ? ToolAgreement.UNSPECIFIED : toolAgreement(compared, said),
  };
}

/** Whether what an answer says is held against its request: a format, tools, or another answer. */
export function isReviewed({ decide, body, fields, internal }: Intake): boolean {
  if ((decide.needs & TOOLS) !== 0 || internal?.compare !== undefined) return true;
  return fieldValue(body, fields, "response_format") !== undefined;
}

/** Whether two answers to one request call the same tools in the same order, with arguments that mean the same. */
export function toolAgreement(a: Said, b: Said): ToolAgreement {
  if (a.calls.length === 0 && b.calls.length === 0) return ToolAgreement.UNSPECIFIED;
  const agrees = a.calls.length === b.calls.length && a.calls.every((call, index) => isSameCall(call, b.calls[index]!));
  return agrees ? ToolAgreement.AGREES : ToolAgreement.DIFFERS;
}

function isSameCall(a: SaidCall, b: SaidCall): boolean {
  if (a.name !== b.name) return false;
  if (a.arguments === b.arguments) return true;
  try {
    return isSame(JSON.parse(a.arguments), JSON.parse(b.arguments));
  } catch {
    return false;
  }
}

/** The format a request asks for: its schema, or `true` for any JSON object; undefined = none. */
function formatOf(body: Uint8Array, fields: Fields): unknown {
  const raw = fieldValue(body, fields, "response_format");
  if (raw === undefined) return undefined;
  const format: unknown = JSON.parse(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString());
  if (!isObject(format)) return undefined;
  if (format["type"] === "json_object") return true;
  const named = format["type"] === "json_schema" ? format["json_schema"] : undefined;
  return isObject(named) ? (named["schema"] ?? true) : undefined;
}

/** A refusal and a tool call say nothing about the format: the first is counted by itself, the second keeps to another. */
function checkFormat(said: Said, format: unknown): SchemaCheck {
  if (said.refusal !== "" || said.calls.length > 0) return SchemaCheck.UNSPECIFIED;
  let value: unknown;
  try {
    value = JSON.parse(said.text);
  } catch {
    return SchemaCheck.INVALID;
  }
  if (format === true) return isObject(value) ? SchemaCheck.VALID : SchemaCheck.INVALID;
  const keeps = keepsToSchema(value, format);
  if (keeps === undefined) return SchemaCheck.UNSPECIFIED;
  return keeps ? SchemaCheck.VALID : SchemaCheck.INVALID;
}
