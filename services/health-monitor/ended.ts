import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";

/** What the monitor looks at of an ended attempt: the part of AttemptEnd that says how its backend does. */
export interface Ended {
  readonly outcome: Outcome;
  /** Of a failure; "" = none. */
  readonly reason: string;
  /** Refused for want of room: that is no failure of the backend. */
  readonly busy: boolean;
  readonly garbage: boolean;
  readonly contentSeen: boolean;
  /** 0 = no content came. */
  readonly ttftMs: number;
  readonly durationMs: number;
  readonly outputTokens: number;
}

/** Hears of each attempt of a message, in order. */
export type EndedListener = (backend: string, end: Ended) => void;

type Changeable = { -readonly [Name in keyof Ended]: Ended[Name] };

/** Field numbers, as in events.proto and adapter.proto. */
const ATTEMPTS = 1;
const BACKEND = 2;
const END = 4;
const OUTCOME = 1;
const USAGE = 2;
const ERROR = 5;
const TTFT_MS = 8;
const DURATION_MS = 9;
const CONTENT_SEEN = 14;
const GARBAGE = 17;
const OUTPUT_TOKENS = 5;
const REASON = 1;
const BUSY = 8;

/**
 * Reads an AttemptsCompleted. There is one for each attempt made anywhere, and most of it is for others: what is not looked at is
 * skipped unread. Throws on malformed bytes.
 */
export function readEnded(payload: Uint8Array, listener: EndedListener): void {
  const reader = new BinaryReader(payload);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag !== message(ATTEMPTS)) reader.skip(tag & 7, tag >>> 3);
    else readAttempt(reader, endOf(reader), listener);
  }
}

function readAttempt(reader: BinaryReader, end: number, listener: EndedListener): void {
  const ended: Changeable = {
    outcome: Outcome.UNSPECIFIED,
    reason: "",
    busy: false,
    garbage: false,
    contentSeen: false,
    ttftMs: 0,
    durationMs: 0,
    outputTokens: 0,
  };
  let backend = "";
  let isEnded = false;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === message(BACKEND)) backend = reader.string();
    else if (tag === message(END)) {
      readEnd(reader, endOf(reader), ended);
      isEnded = true;
    } else reader.skip(tag & 7, tag >>> 3);
  }
  if (isEnded) listener(backend, ended);
}

function readEnd(reader: BinaryReader, end: number, into: Changeable): void {
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === varint(OUTCOME)) into.outcome = reader.int32() as Outcome;
    else if (tag === message(USAGE)) into.outputTokens = readOutputTokens(reader, endOf(reader));
    else if (tag === message(ERROR)) readError(reader, endOf(reader), into);
    else if (tag === double(TTFT_MS)) into.ttftMs = reader.double();
    else if (tag === double(DURATION_MS)) into.durationMs = reader.double();
    else if (tag === varint(CONTENT_SEEN)) into.contentSeen = reader.bool();
    else if (tag === varint(GARBAGE)) into.garbage = reader.bool();
    else reader.skip(tag & 7, tag >>> 3);
  }
}

function readOutputTokens(reader: BinaryReader, end: number): number {
  let tokens = 0;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === varint(OUTPUT_TOKENS)) tokens = reader.uint32();
    else reader.skip(tag & 7, tag >>> 3);
  }
  return tokens;
}

function readError(reader: BinaryReader, end: number, into: Changeable): void {
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === message(REASON)) into.reason = reader.string();
    else if (tag === varint(BUSY)) into.busy = reader.bool();
    else reader.skip(tag & 7, tag >>> 3);
  }
}

function endOf(reader: BinaryReader): number {
  const end = reader.uint32() + reader.pos;
  if (end > reader.len) throw new RangeError("message ends beyond its bytes");
  return end;
}

function varint(field: number): number {
  return (field << 3) | WireType.Varint;
}

function double(field: number): number {
  return (field << 3) | WireType.Bit64;
}

function message(field: number): number {
  return (field << 3) | WireType.LengthDelimited;
}
