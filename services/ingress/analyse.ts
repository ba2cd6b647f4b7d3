import { hash } from "node:crypto";
import { type DecideRequest, Operation, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CAPABILITY_BITS } from "#libs/capability/index.ts";
import { findField } from "#libs/json-bytes/index.ts";
import type { Caller } from "./auth.ts";
import type { Catalog } from "./catalog.ts";
import type { ChatRequest } from "./openai/chat.ts";
import type { EmbeddingsRequest } from "./openai/embeddings.ts";
import { type Extent, hashText, prefixHashes } from "./prefix.ts";
import { classOf, mergeTags, type RequestOptions } from "./request-options.ts";
import { type PromptSize, sizeInputs, sizePrompt, type TokenFactors } from "./tokens.ts";

/** Time to first token asked for by `service_tier: priority|fast`, ms, where the caller names none. */
const LOW_LATENCY_TTFT_MS = 500;

/** Characters of the system prompt that name its template (routing, 1.3: the first 256 tokens). */
const TEMPLATE_CHARS = 1_024;

/** Characters of the first user message that name the conversation. */
const CONVERSATION_CHARS = 4_096;

const NO_PREFIX = new Uint8Array(0);

/** What is the same for every kind of call. */
export interface AnalyseContext {
  readonly options: RequestOptions;
  readonly caller: Caller;
  readonly catalog: Catalog;
  readonly factors: TokenFactors;
  readonly decisionId: string;
  readonly requestId: string;
  /** Whether the engine should also list excluded candidates. */
  readonly explain: boolean;
}

/** A chat request to be analysed. */
export interface AnalyseInput extends AnalyseContext {
  readonly chat: ChatRequest;
  readonly body: Uint8Array;
  /** Extents of the body's members, as libs/json-bytes gives them; undefined = unknown. */
  readonly fields: Uint32Array | undefined;
}

/** The features of one request and what its estimate stands on. */
export interface Analysis {
  readonly decide: DecideRequest;
  readonly size: PromptSize;
}

/** Capabilities a chat request cannot do without (decision 19), as a bit mask. Hints are not among them. */
export function needsOf(chat: ChatRequest, size: PromptSize): number {
  let needs = 0;
  if (chat.tools.length > 0) needs |= 1 << CAPABILITY_BITS.tools;
  if (size.hasImage) needs |= 1 << CAPABILITY_BITS.vision;
  if (size.hasAudio || chat.audioOutput) needs |= 1 << CAPABILITY_BITS.audio;
  if (size.hasFile) needs |= 1 << CAPABILITY_BITS.pdf;
  if (chat.responseFormat === "json_schema") needs |= 1 << CAPABILITY_BITS.json_schema;
  if (chat.n > 1) needs |= 1 << CAPABILITY_BITS.n;
  if (chat.logprobs) needs |= 1 << CAPABILITY_BITS.logprobs;
  return needs;
}

/** Turns a checked request into the features a decision may depend on. Pure; holds no content. */
export function analyse(input: AnalyseInput): Analysis {
  const { chat, options } = input;
  const tools = extentOf(input, "tools") ?? extentOf(input, "functions");
  const size = sizePrompt(chat, tools ? tools.to - tools.from : 0);
  const { model, user, metadata } = chat;
  const resolved = input.catalog.resolve(model);
  const asked = { model, resolved, user, metadata, byTier: classOfTier(chat), operation: Operation.CHAT };
  const decide = featuresOf(input, asked, size);
  decide.needs = needsOf(chat, size);
  decide.maxOutputTokens = chat.maxOutputTokens;
  decide.choices = chat.n;
  decide.stream = chat.stream;
  decide.ttftTargetMs = options.ttftMs || (isLowLatency(chat) ? LOW_LATENCY_TTFT_MS : 0);
  decide.prefixHashes = prefixOf(input, resolved, tools, decide.inputTokens);
  decide.templateHash = hashText(firstText(chat, "system", TEMPLATE_CHARS) || firstText(chat, "developer", TEMPLATE_CHARS));
  decide.conversation = hashText(firstText(chat, "user", CONVERSATION_CHARS));
  return { decide, size };
}

/** Turns a checked embeddings request into the features a decision may depend on. Pure; holds no content. */
export function analyseEmbeddings(input: AnalyseContext, request: EmbeddingsRequest): Analysis {
  const size = sizeInputs(request.texts, request.tokens);
  const { model, user } = request;
  const resolved = input.catalog.resolve(model);
  const byTier = RequestClass.UNSPECIFIED;
  const decide = featuresOf(input, { model, resolved, user, metadata: {}, byTier, operation: Operation.EMBEDDINGS }, size);
  decide.needs = 1 << CAPABILITY_BITS.embeddings;
  return { decide, size };
}

/** What the caller wrote that matters to a decision whatever is asked for. */
interface Asked {
  readonly model: string;
  /** The configured model's own name. */
  readonly resolved: string;
  readonly user: string;
  readonly metadata: ChatRequest["metadata"];
  readonly byTier: RequestClass;
  readonly operation: Operation;
}

/** The features that every kind of call has; those of one kind are left empty. */
function featuresOf(input: AnalyseContext, asked: Asked, size: PromptSize): DecideRequest {
  const { caller, options } = input;
  const factor = input.factors.factor(asked.resolved, size.contentClass);
  return {
    $typeName: "signalbox.policy.v1.DecideRequest",
    decisionId: input.decisionId,
    requestId: input.requestId,
    model: asked.model,
    tenant: caller.tenant,
    team: caller.team,
    keyId: caller.keyId,
    tags: mergeTags(options.tags, asked.metadata),
    requestClass: requestClassOf(input, asked.model, asked.byTier),
    operation: asked.operation,
    needs: 0,
    inputTokens: Math.ceil(size.textTokens * factor) + size.mediaTokens,
    maxOutputTokens: 0,
    stream: false,
    ttftTargetMs: options.ttftMs,
    deadlineMs: options.deadlineMs,
    maxCostNanoUsd: options.maxCostNanoUsd,
    unit: unitOf(caller.tenant, asked.user),
    prefixHashes: NO_PREFIX,
    exclude: [],
    forcedArm: options.forcedArm,
    explain: input.explain,
    templateHash: "",
    conversation: "",
    inputBytes: size.bytes,
    contentClass: size.contentClass,
    role: "",
    choices: 1,
  };
}

function isLowLatency(chat: ChatRequest): boolean {
  return chat.serviceTier === "priority" || chat.serviceTier === "fast";
}

function classOfTier(chat: ChatRequest): RequestClass {
  if (isLowLatency(chat)) return RequestClass.INTERACTIVE;
  return chat.serviceTier === "flex" ? RequestClass.BATCH : RequestClass.UNSPECIFIED;
}

/** Header, else service_tier, else the model's own default; never above what the key may ask for. */
function requestClassOf(input: AnalyseContext, model: string, byTier: RequestClass): RequestClass {
  const { caller, options } = input;
  const asked = options.requestClass === RequestClass.UNSPECIFIED ? byTier : options.requestClass;
  if (caller.maxClass === 0) return asked;
  const effective = asked === RequestClass.UNSPECIFIED ? classOf(input.catalog.defaultClass(model)) : asked;
  return effective < caller.maxClass ? (caller.maxClass as RequestClass) : asked;
}

/** The unit of stickiness, the same on every replica and after every restart, and not readable back to a user name. */
function unitOf(tenant: string, user: string): string {
  return user === "" ? "" : hash("sha256", `${tenant}\u0000${user}`, "hex").slice(0, 32);
}

function firstText(chat: ChatRequest, role: string, chars: number): string {
  for (const message of chat.messages) {
    if (message["role"] !== role) continue;
    const content = message["content"];
    if (typeof content === "string") return content.slice(0, chars);
    if (!Array.isArray(content)) return "";
    for (const part of content as readonly Readonly<Record<string, unknown>>[]) {
      if (typeof part["text"] === "string") return part["text"].slice(0, chars);
    }
    return "";
  }
  return "";
}

function prefixOf(input: AnalyseInput, model: string, tools: Extent | undefined, inputTokens: number): Uint8Array<ArrayBuffer> {
  const messages = extentOf(input, "messages") ?? wholeOf(JSON.stringify(input.chat.messages));
  return prefixHashes(`${input.caller.tenant}\u0000${model}`, tools, messages, inputTokens);
}

function wholeOf(text: string): Extent {
  const bytes = Buffer.from(text);
  return { bytes, from: 0, to: bytes.length };
}

function extentOf(input: AnalyseInput, name: string): Extent | undefined {
  const { body, fields } = input;
  if (fields === undefined) return undefined;
  const at = findField(body, fields, name);
  return at < 0 ? undefined : { bytes: body, from: fields[at + 2]!, to: fields[at + 3]! };
}
