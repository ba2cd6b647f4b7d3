import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { KeyRecordSchema, type CreateKeyRequest, type KeyRecord } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { SYSTEM_TENANT } from "#libs/money/index.ts";
import type { Random } from "#libs/clock/index.ts";

/** Start of every virtual key: recognisable in a leak, and never a provider's. */
export const KEY_PREFIX = "sk-sbx-";
const KEY_BYTES = 32;
const KEY_ID_BYTES = 9;
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** Characters of a key people may see: the prefix and four more. */
const HINT_LENGTH = KEY_PREFIX.length + 4;
/** Bounds of what a key may carry, so that the whole control state stays small. */
const NAME_MAX = 200;
const MODELS_MAX = 200;

/** A new key: the secret leaves with the answer, the record holds only its digest. Throws REQUEST_MALFORMED on bad input. */
export function makeKey(request: CreateKeyRequest, random: Random, nowMs: number): { readonly key: string; readonly record: KeyRecord } {
  validate(request, nowMs);
  const key = KEY_PREFIX + base62(random.bytes(new Uint8Array(KEY_BYTES)));
  const record = create(KeyRecordSchema, {
    keyId: `key_${base62(random.bytes(new Uint8Array(KEY_ID_BYTES)))}`,
    digest: digestOf(key),
    hint: `${key.slice(0, HINT_LENGTH)}…`,
    tenant: request.tenant,
    team: request.team,
    models: [...request.models],
    name: request.name,
    maxClass: request.maxClass,
    mayForceArm: request.mayForceArm,
    expiresAtMs: request.expiresAtMs,
    createdAtMs: nowMs,
  });
  return { key, record };
}

/** Longest a replaced secret may work on, ms: a month to reach every place it is used in. */
const GRACE_MAX_MS = 31 * 24 * 3_600_000;

/** Gives a record a new secret, which is returned; the old one works on for the grace. Throws REQUEST_MALFORMED on a bad grace. */
export function rotate(record: KeyRecord, graceMs: number, random: Random, nowMs: number): string {
  if (!(graceMs >= 0 && graceMs <= GRACE_MAX_MS))
    throw new SignalboxError("REQUEST_MALFORMED", "grace: from 0 to 31 days", { param: "grace" });
  const key = KEY_PREFIX + base62(random.bytes(new Uint8Array(KEY_BYTES)));
  record.previousDigest = graceMs === 0 ? new Uint8Array(0) : record.digest;
  record.previousUntilMs = graceMs === 0 ? 0 : nowMs + graceMs;
  record.digest = digestOf(key);
  record.hint = `${key.slice(0, HINT_LENGTH)}…`;
  return key;
}

/** SHA-256 of the whole key: a key has 256 random bits, so no slow hash is needed. */
export function digestOf(key: string): Uint8Array {
  return createHash("sha256").update(key).digest();
}

/** The record as people may see it. */
export function withoutDigest(record: KeyRecord): KeyRecord {
  return { ...record, digest: new Uint8Array(0), previousDigest: new Uint8Array(0) };
}

/** Digits and letters of a number of bytes, always as many characters as the largest needs. */
export function base62(bytes: Uint8Array): string {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  let text = "";
  for (let left = Math.ceil((bytes.length * 8) / Math.log2(62)); left > 0; left--) {
    text = ALPHABET[Number(value % 62n)]! + text;
    value /= 62n;
  }
  return text;
}

function validate(request: CreateKeyRequest, nowMs: number): void {
  const refuse = (param: string, message: string): never => {
    throw new SignalboxError("REQUEST_MALFORMED", message, { param });
  };
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(request.tenant))
    refuse("tenant", "tenant: letters, digits, dot, dash and underscore, at most 63");
  if (request.tenant === SYSTEM_TENANT) refuse("tenant", `tenant: ${SYSTEM_TENANT} is the gateway's own`);
  if (request.team.length > NAME_MAX) refuse("team", `team: at most ${NAME_MAX} characters`);
  if (request.name.length > NAME_MAX) refuse("name", `name: at most ${NAME_MAX} characters`);
  if (request.models.length > MODELS_MAX) refuse("models", `models: at most ${MODELS_MAX}`);
  if (request.expiresAtMs !== 0 && request.expiresAtMs <= nowMs) refuse("expires_at", "expires_at lies in the past");
}
