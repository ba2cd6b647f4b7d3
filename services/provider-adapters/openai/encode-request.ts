import type { AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { BackendConfig } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { FIELD_STRIDE, type Fields, fieldValue, findField, scanTopLevel, spliceTopLevel } from "#libs/json-bytes/index.ts";
import type { EncodedRequest } from "../codec.ts";
import { type Quirks, quirksOf, refusedSampling } from "./quirks.ts";

/** What depends on the backend alone; made once per configuration. */
interface Plan {
  readonly quirks: Quirks;
  readonly refused: ReadonlySet<string>;
  readonly modelJson: Buffer;
}

const plans = new WeakMap<BackendConfig, Plan>();

function planOf(backend: BackendConfig): Plan {
  let plan = plans.get(backend);
  if (plan === undefined) {
    plan = {
      quirks: quirksOf(backend.provider),
      refused: refusedSampling(backend.provider, backend.model),
      modelJson: Buffer.from(JSON.stringify(backend.model)),
    };
    plans.set(backend, plan);
  }
  return plan;
}

const TRUE = Buffer.from("true");
const FALSE = Buffer.from("false");
const INCLUDE_USAGE = Buffer.from('{"include_usage":true}');
const NO_WARNINGS: readonly string[] = [];

/**
 * The request for an OpenAI-shaped backend: the caller's bytes with `model` put in and, where it must be, single members
 * changed; nothing else is touched, unknown members included. Throws REQUEST_MALFORMED when the body is no JSON object.
 */
export function encodeRequest(open: AttemptOpen, backend: BackendConfig): EncodedRequest {
  const plan = planOf(backend);
  let body: Uint8Array = open.body;
  let fields: Fields = open.fields;
  if (fields.length === 0) [body, fields] = scanned(body);
  const edit = new Edit(body, fields);
  edit.set("model", plan.modelJson);
  editMembers(edit, open, backend, plan);
  if (open.stream) editStreamOptions(edit, plan.quirks);
  editOutputLimit(edit, open, plan.quirks);
  if (open.enginePrioritySet && backend.enginePriority) {
    const value = plan.quirks.enginePriority === "higher_first" ? -open.enginePriority : open.enginePriority;
    edit.set("priority", Buffer.from(String(value)));
  }
  if (open.resumePrefix !== "") editResume(edit, open, plan.quirks);
  return {
    path: "/chat/completions",
    headers: {},
    body: spliceTopLevel(body, fields, edit.changes),
    stream: open.stream,
    warnings: edit.warnings,
  };
}

/** Extents of a body nobody scanned; one that cannot be scanned (repeated or escaped keys) is written anew by what JSON.parse makes of it. */
function scanned(body: Uint8Array): [Uint8Array, Fields] {
  const fields = scanTopLevel(body);
  if (fields !== undefined) return [body, fields];
  const rewritten = Buffer.from(JSON.stringify(parsed(body)));
  const again = scanTopLevel(rewritten);
  if (again === undefined) throw new SignalboxError("REQUEST_MALFORMED", "The request body is not a JSON object that can be forwarded.");
  return [rewritten, again];
}

function parsed(body: Uint8Array): object {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body).toString("utf8"));
  } catch (cause) {
    throw new SignalboxError("REQUEST_MALFORMED", "The request body is not valid JSON.", { code: "invalid_json", cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SignalboxError("REQUEST_MALFORMED", "The request body must be a JSON object.", { code: "invalid_json" });
  }
  return value;
}

/** The changes to one body. */
class Edit {
  readonly body: Uint8Array;
  readonly fields: Fields;
  readonly changes = new Map<string, Uint8Array | null>();
  warnings: readonly string[] = NO_WARNINGS;

  constructor(body: Uint8Array, fields: Fields) {
    this.body = body;
    this.fields = fields;
  }

  set(name: string, value: Uint8Array): void {
    this.changes.set(name, value);
  }

  /** Removes a member the caller sent; `why` becomes a warning, where there is one. */
  drop(name: string, why?: string): void {
    this.changes.set(name, null);
    if (why !== undefined) this.warn(`${name}: ${why}`);
  }

  warn(text: string): void {
    this.warnings = [...this.warnings, text];
  }

  has(name: string): boolean {
    return findField(this.body, this.fields, name) >= 0;
  }

  value(name: string): unknown {
    const bytes = fieldValue(this.body, this.fields, name);
    if (bytes === undefined) return undefined;
    try {
      return JSON.parse(textOf(bytes));
    } catch (cause) {
      throw new SignalboxError("REQUEST_MALFORMED", `The value of ${name} is not valid JSON.`, { param: name, cause });
    }
  }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}

/** One walk over the caller's members: those that need a look are rare. */
function editMembers(edit: Edit, open: AttemptOpen, backend: BackendConfig, plan: Plan): void {
  const { quirks, refused } = plan;
  const bytes = Buffer.from(edit.body.buffer, edit.body.byteOffset, edit.body.byteLength);
  for (let at = 0; at < edit.fields.length; at += FIELD_STRIDE) {
    const name = bytes.toString("latin1", edit.fields[at]!, edit.fields[at + 1]!);
    if (quirks.drops.has(name)) edit.drop(name, `dropped, ${backend.provider} does not support it`);
    else if (refused.has(name)) edit.drop(name, `dropped, ${backend.model} does not support it`);
    else if (quirks.renames.has(name)) rename(edit, name, quirks.renames.get(name)!);
    else if (name === "metadata") editMetadata(edit);
    else if (name === "service_tier" && !backend.serviceTiers) edit.drop(name);
    else if (name === "priority" && quirks.enginePriority !== "none") edit.drop(name, "dropped, the router sets it");
    else if (name === "temperature" && quirks.temperatureMax < 2) clampTemperature(edit, quirks.temperatureMax);
    else if (name === "stream_options" && !open.stream) edit.drop(name);
  }
}

function rename(edit: Edit, from: string, to: string): void {
  const value = fieldValue(edit.body, edit.fields, from);
  if (value !== undefined && !edit.has(to)) edit.set(to, value);
  edit.drop(from);
}

/** Metadata are tags of ours; only a stored completion takes them along. */
function editMetadata(edit: Edit): void {
  if (edit.value("store") !== true) edit.drop("metadata");
}

function clampTemperature(edit: Edit, max: number): void {
  const value = edit.value("temperature");
  if (typeof value !== "number" || value <= max) return;
  edit.set("temperature", Buffer.from(String(max)));
  edit.warn(`temperature: clamped to ${max}`);
}

/** Usage is always asked for, because it is billed; the decoder keeps it from callers who did not ask. */
function editStreamOptions(edit: Edit, quirks: Quirks): void {
  if (!quirks.streamOptions) {
    if (edit.has("stream_options")) edit.drop("stream_options");
    return;
  }
  const options = edit.value("stream_options");
  if (typeof options !== "object" || options === null) {
    edit.set("stream_options", INCLUDE_USAGE);
    return;
  }
  const { continuous_usage_stats: continuous, ...rest } = options as Record<string, unknown>;
  if (continuous === true) edit.warn("stream_options.continuous_usage_stats: dropped, usage comes once, at the end");
  edit.set("stream_options", Buffer.from(JSON.stringify({ ...rest, include_usage: true })));
}

/** The output limit under the name the provider knows; ours where the caller gave none; less what was delivered before a resume. */
function editOutputLimit(edit: Edit, open: AttemptOpen, quirks: Quirks): void {
  const modern = edit.has("max_completion_tokens");
  const legacy = edit.has("max_tokens");
  const name = quirks.outputLimit === "both" ? (modern || !legacy ? "max_completion_tokens" : "max_tokens") : quirks.outputLimit;
  const given = modern ? edit.value("max_completion_tokens") : legacy ? edit.value("max_tokens") : undefined;
  const limit = typeof given === "number" ? given : open.maxOutputTokens > 0 ? open.maxOutputTokens : undefined;
  if (limit === undefined) return;
  const left = Math.max(1, limit - open.resumeTokens);
  const other = name === "max_tokens" ? "max_completion_tokens" : "max_tokens";
  if (edit.has(other)) edit.drop(other);
  if (left !== given || !edit.has(name)) edit.set(name, Buffer.from(String(left)));
}

/** Puts the text delivered so far behind the messages, and says that it is to be continued. */
function editResume(edit: Edit, open: AttemptOpen, quirks: Quirks): void {
  const messages = edit.value("messages");
  if (!Array.isArray(messages)) throw new SignalboxError("REQUEST_MALFORMED", "messages must be a list.", { param: "messages" });
  const last = { role: "assistant", content: open.resumePrefix, ...(quirks.prefill === "prefix" ? { prefix: true } : {}) };
  edit.set("messages", Buffer.from(JSON.stringify([...(messages as unknown[]), last])));
  if (quirks.prefill === "continue_final_message") {
    edit.set("continue_final_message", TRUE);
    edit.set("add_generation_prompt", FALSE);
  }
}
