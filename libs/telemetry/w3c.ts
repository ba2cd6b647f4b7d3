import type { Random } from "#libs/clock/index.ts";
import type { TraceContext } from "./tracing.ts";

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const STATE_KEY = /^(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})$/;
const STATE_VALUE = /^[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;

/** Most tracestate members (W3C Trace Context, 3.3.1.1). */
const STATE_MEMBERS_MAX = 32;

/** Most tracestate bytes passed on. */
const STATE_MAX_LENGTH = 512;

/** What a traceparent header says, or undefined when there is none, more than one, or an illegal one (W3C Trace Context, 3.2). */
export function parseTraceparent(values: readonly string[]): { traceId: string; spanId: string; sampled: boolean } | undefined {
  if (values.length !== 1) return undefined;
  const match = TRACEPARENT.exec(values[0]!.trim());
  if (!match) return undefined;
  const [, version, traceId, spanId, flags, rest] = match;
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined;
  if (/^0+$/.test(traceId!) || /^0+$/.test(spanId!)) return undefined;
  return { traceId: traceId!, spanId: spanId!, sampled: (Number.parseInt(flags!, 16) & 1) === 1 };
}

/** A tracestate that may be passed on, or "" when the headers hold an illegal one (W3C Trace Context, 3.3). */
export function parseTracestate(values: readonly string[]): string {
  const members = values.flatMap((value) => value.split(",")).map((member) => member.trim());
  const kept = members.filter((member) => member !== "");
  if (kept.length > STATE_MEMBERS_MAX) return "";
  const seen = new Set<string>();
  for (const member of kept) {
    const at = member.indexOf("=");
    const key = member.slice(0, at);
    if (at < 1 || seen.has(key) || !STATE_KEY.test(key) || !STATE_VALUE.test(member.slice(at + 1))) return "";
    seen.add(key);
  }
  const text = kept.join(",");
  return text.length > STATE_MAX_LENGTH ? "" : text;
}

/** Draws ids of `bytes` random bytes in lower-case hex from a pool; all-zero ids are illegal and drawn again. */
export function createIdSource(random: Random): (bytes: number) => string {
  const pool = Buffer.alloc(4096);
  let at = pool.length;
  return function draw(bytes: number): string {
    if (at + bytes > pool.length) {
      random.bytes(pool);
      at = 0;
    }
    const from = at;
    at += bytes;
    let any = 0;
    for (let index = from; index < at; index++) any |= pool[index]!;
    return any === 0 ? draw(bytes) : pool.toString("hex", from, at);
  };
}

/** The context of a request from its headers: the caller's trace continued, or a new one sampled by `share`. */
export function startContext(
  traceparent: readonly string[],
  tracestate: readonly string[],
  draw: (bytes: number) => string,
  share: number,
): TraceContext {
  const parent = parseTraceparent(traceparent);
  if (!parent) {
    const traceId = draw(16);
    return { traceId, parentSpanId: "", tracestate: "", sampled: isSampled(traceId, share) };
  }
  return {
    traceId: parent.traceId,
    parentSpanId: parent.spanId,
    tracestate: parseTracestate(tracestate),
    sampled: parent.sampled || isSampled(parent.traceId, share),
  };
}

/** Whether a trace belongs to the kept share: by its id, so that every process says the same. */
function isSampled(traceId: string, share: number): boolean {
  return Number.parseInt(traceId.slice(0, 8), 16) < share * 0x1_0000_0000;
}
