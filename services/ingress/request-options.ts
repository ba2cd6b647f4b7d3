import type { IncomingHttpHeaders } from "node:http";
import { RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ClassName } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { parseUsd } from "#libs/money/index.ts";
import { IDEMPOTENCY_KEY_MAX, TAG_NAME_MAX, TAG_VALUE_MAX, TAGS_MAX } from "./limits.ts";
import { hasControl } from "./openai/chat.ts";

/** What a caller asks of the routing by headers. */
export interface RequestOptions {
  readonly requestClass: RequestClass;
  /** 0 = none. */
  readonly ttftMs: number;
  /** 0 = none. */
  readonly deadlineMs: number;
  /** 0n = none. */
  readonly maxCostNanoUsd: bigint;
  readonly tags: Readonly<Record<string, string>>;
  /** Empty = none. */
  readonly idempotencyKey: string;
  /** `NAME=ARM`; empty = none. */
  readonly forcedArm: string;
}

/** Nothing asked. */
export const NO_OPTIONS: RequestOptions = {
  requestClass: RequestClass.UNSPECIFIED,
  ttftMs: 0,
  deadlineMs: 0,
  maxCostNanoUsd: 0n,
  tags: {},
  idempotencyKey: "",
  forcedArm: "",
};

const CLASSES: Readonly<Record<string, RequestClass>> = {
  interactive: RequestClass.INTERACTIVE,
  standard: RequestClass.STANDARD,
  batch: RequestClass.BATCH,
};

/** The class of a word; UNSPECIFIED for anything else. */
export function classOf(word: string): RequestClass {
  return Object.hasOwn(CLASSES, word) ? CLASSES[word]! : RequestClass.UNSPECIFIED;
}

/** The word of a class; what rules see of one that has none, as the internal one, is `standard`. */
export function classNameOf(requestClass: RequestClass): ClassName {
  if (requestClass === RequestClass.INTERACTIVE) return "interactive";
  return requestClass === RequestClass.BATCH ? "batch" : "standard";
}

const TAG_NAME = /^[A-Za-z0-9_.:/-]+$/;
const MILLISECONDS = /^\d{1,9}(?:\.\d{1,3})?$/;
const DOLLARS = /^\d{1,9}(?:\.\d{1,9})?$/;
const ARM = /^[A-Za-z0-9_.-]{1,64}=[A-Za-z0-9_.-]{1,64}$/;

function invalid(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}

/** Reads the `x-signalbox-*` headers and `idempotency-key`. Throws REQUEST_MALFORMED naming the header. */
export function readOptions(headers: IncomingHttpHeaders): RequestOptions {
  return {
    requestClass: readClass(textOf(headers, "x-signalbox-priority")),
    ttftMs: readMs(headers, "x-signalbox-ttft-ms"),
    deadlineMs: readMs(headers, "x-signalbox-deadline-ms"),
    maxCostNanoUsd: readCost(textOf(headers, "x-signalbox-max-cost-usd")),
    tags: readTags(textOf(headers, "x-signalbox-tags")),
    idempotencyKey: readIdempotencyKey(textOf(headers, "idempotency-key")),
    forcedArm: readArm(textOf(headers, "x-signalbox-experiment")),
  };
}

function textOf(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return typeof value === "string" ? value.trim() : "";
}

function readClass(word: string): RequestClass {
  if (word === "") return RequestClass.UNSPECIFIED;
  const found = classOf(word);
  if (found === RequestClass.UNSPECIFIED) {
    throw invalid("x-signalbox-priority", "'x-signalbox-priority' must be interactive, standard or batch.");
  }
  return found;
}

function readMs(headers: IncomingHttpHeaders, name: string): number {
  const text = textOf(headers, name);
  if (text === "") return 0;
  if (!MILLISECONDS.test(text) || Number(text) <= 0) throw invalid(name, `'${name}' must be a positive number of milliseconds.`);
  return Number(text);
}

function readCost(text: string): bigint {
  if (text === "") return 0n;
  const amount = DOLLARS.test(text) ? parseUsd(text) : 0n;
  if (amount <= 0n)
    throw invalid("x-signalbox-max-cost-usd", "'x-signalbox-max-cost-usd' must be a positive amount of dollars, like 0.05.");
  return amount;
}

function readIdempotencyKey(key: string): string {
  if (key.length > IDEMPOTENCY_KEY_MAX) {
    throw invalid("idempotency-key", `'idempotency-key' is longer than ${IDEMPOTENCY_KEY_MAX} characters.`);
  }
  return key;
}

function readArm(text: string): string {
  if (text !== "" && !ARM.test(text)) throw invalid("x-signalbox-experiment", "'x-signalbox-experiment' must be NAME=ARM.");
  return text;
}

function readTags(text: string): Readonly<Record<string, string>> {
  const tags: Record<string, string> = {};
  if (text === "") return tags;
  const pairs = text.split(",");
  if (pairs.length > TAGS_MAX) throw invalid("x-signalbox-tags", `'x-signalbox-tags' has more than ${TAGS_MAX} tags.`);
  for (const pair of pairs) {
    const at = pair.indexOf("=");
    const name = pair.slice(0, at).trim();
    const value = pair.slice(at + 1).trim();
    if (at < 1 || !isTagName(name)) throw invalid("x-signalbox-tags", "'x-signalbox-tags' must look like team=search,feature=chat.");
    if (value.length > TAG_VALUE_MAX || hasControl(value)) {
      throw invalid(
        "x-signalbox-tags",
        `A value in 'x-signalbox-tags' is longer than ${TAG_VALUE_MAX} characters or has control characters.`,
      );
    }
    tags[name] = value;
  }
  return tags;
}

/** Whether a name may be a tag's: short, printable, and none that means something to JavaScript objects. */
export function isTagName(name: string): boolean {
  return name.length <= TAG_NAME_MAX && TAG_NAME.test(name) && name !== "__proto__";
}

/**
 * Tags of a request: those of the header, then entries of `metadata` as far as 16 allow. Metadata values are cut to a tag's
 * length; names that cannot be tags are left out; control characters are refused.
 */
export function mergeTags(
  fromHeader: Readonly<Record<string, string>>,
  metadata: Readonly<Record<string, string>>,
): Record<string, string> {
  const tags = { ...fromHeader };
  let count = Object.keys(tags).length;
  for (const [name, value] of Object.entries(metadata)) {
    if (hasControl(name) || hasControl(value)) throw invalid("metadata", "'metadata' has control characters.");
    if (count >= TAGS_MAX || Object.hasOwn(tags, name) || !isTagName(name)) continue;
    tags[name] = value.slice(0, TAG_VALUE_MAX);
    count++;
  }
  return tags;
}
