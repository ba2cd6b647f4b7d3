import { create } from "@bufbuild/protobuf";
import { type DecideRequest, DecideRequestSchema, Operation, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CAPABILITY_BITS, maskOf } from "#libs/capability/index.ts";
import type { Config } from "#libs/config/model.ts";
import { modelNamed } from "#libs/config/model-named.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { countOf, stringOf, stringsOf } from "./http.ts";

const CLASSES: Readonly<Record<string, RequestClass>> = {
  interactive: RequestClass.INTERACTIVE,
  standard: RequestClass.STANDARD,
  batch: RequestClass.BATCH,
};

type CapabilityName = keyof typeof CAPABILITY_BITS;

/**
 * The features of a dry run from the admin API's JSON: a chat, or an embeddings call where that is needed or all the model is for. Throws
 * a REQUEST_MALFORMED that names the parameter.
 */
export function dryRunRequest(body: Record<string, unknown>, decisionId: string, config: Pick<Config, "models">): DecideRequest {
  const model = stringOf(body, "model");
  if (model === undefined || model === "") throw new SignalboxError("REQUEST_MALFORMED", "model is needed.", { param: "model" });
  const className = stringOf(body, "class") ?? "";
  if (className !== "" && CLASSES[className] === undefined)
    throw new SignalboxError("REQUEST_MALFORMED", `class is one of ${Object.keys(CLASSES).join(", ")}.`, { param: "class" });
  const needs = stringsOf(body, "needs");
  const unknown = needs.find((name) => !Object.hasOwn(CAPABILITY_BITS, name));
  if (unknown !== undefined)
    throw new SignalboxError("REQUEST_MALFORMED", `needs knows ${Object.keys(CAPABILITY_BITS).join(", ")}; not "${unknown}".`, {
      param: "needs",
    });
  const embeds = needs.includes("embeddings") || modelNamed(config, model)?.requires.has("embeddings") === true;
  return create(DecideRequestSchema, {
    decisionId,
    requestId: decisionId,
    model,
    tenant: stringOf(body, "tenant") ?? "default",
    team: stringOf(body, "team") ?? "",
    tags: tagsOf(body["tags"]),
    requestClass: CLASSES[className] ?? RequestClass.UNSPECIFIED,
    operation: embeds ? Operation.EMBEDDINGS : Operation.CHAT,
    needs: maskOf(needs as CapabilityName[]),
    inputTokens: countOf(body, "input_tokens") || 100,
    maxOutputTokens: countOf(body, "max_output_tokens"),
    ttftTargetMs: countOf(body, "ttft_ms"),
    deadlineMs: countOf(body, "deadline_ms"),
    stream: body["stream"] === true,
    unit: stringOf(body, "user") ?? "",
    explain: true,
  });
}

function tagsOf(value: unknown): Record<string, string> {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value))
    throw new SignalboxError("REQUEST_MALFORMED", "tags must be an object of strings.", { param: "tags" });
  return Object.fromEntries(Object.entries(value).map(([name, text]) => [name, String(text)]));
}
