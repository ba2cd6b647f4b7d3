import { createHash } from "node:crypto";
import type { Config, ModelConfig } from "#libs/config/model.ts";

/** What a revision of a model decides: who may serve it and what is promised. Plain JSON. */
export interface ModelVersion {
  readonly candidates: readonly string[];
  readonly requires: readonly string[];
  readonly class: ModelConfig["class"];
  readonly midStream: ModelConfig["midStream"];
  readonly sla: { readonly ttftMs?: number; readonly tpotMs?: number; readonly deadlineMs?: number };
}

/** One revision in a model's life. */
export interface ModelRevision {
  readonly revision: number;
  /** file: the file's block changed; rollback: an earlier version again. */
  readonly action: "file" | "rollback";
  readonly at_ms: number;
  readonly by: string;
  /** Why; empty where a person just did it. */
  readonly reason: string;
  readonly version: ModelVersion;
  /** Revision whose version this is; its own for a file's. */
  readonly version_of: number;
}

/** A model's revisions as they are stored. Plain JSON; the last one is in force while `basis` is the file's block. */
export interface ModelHistory {
  readonly name: string;
  /** Digest of the file's block that the last revision was made over. */
  readonly basis: string;
  /** Latest last; bounded. */
  readonly history: readonly ModelRevision[];
}

/** Revisions of one model that are remembered. */
const HISTORY_MAX = 20;

const DIGEST_CHARS = 32;

/** The version that the file states. */
export function versionOf(model: ModelConfig): ModelVersion {
  const { ttftMs, tpotMs, deadlineMs } = model.sla;
  return {
    candidates: model.candidates,
    requires: [...model.requires],
    class: model.class,
    midStream: model.midStream,
    sla: {
      ...(ttftMs === undefined ? {} : { ttftMs }),
      ...(tpotMs === undefined ? {} : { tpotMs }),
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
    },
  };
}

/** Digest of what the file states of a model. */
export function modelDigest(model: ModelConfig): string {
  return createHash("sha256")
    .update(JSON.stringify(versionOf(model)))
    .digest("hex")
    .slice(0, DIGEST_CHARS);
}

/** Reads stored revisions; undefined when they are none. */
export function decodeModelHistory(stored: Uint8Array | undefined): ModelHistory | undefined {
  if (stored === undefined) return undefined;
  try {
    const value = JSON.parse(Buffer.from(stored).toString("utf8")) as Partial<ModelHistory> | null;
    return typeof value?.basis === "string" && Array.isArray(value.history) && value.history.length > 0
      ? (value as ModelHistory)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Revisions as control state carries them. */
export function encodeModelHistory(history: ModelHistory): Uint8Array {
  return Buffer.from(JSON.stringify(history));
}

/** The history with the file's block as its latest revision; undefined when it is so already. */
export function noteFileVersion(before: ModelHistory | undefined, model: ModelConfig, nowMs: number): ModelHistory | undefined {
  const basis = modelDigest(model);
  if (before?.basis === basis) return undefined;
  const revision = (before?.history.at(-1)?.revision ?? 0) + 1;
  const parts = { at_ms: nowMs, by: "configuration", reason: "", version: versionOf(model), version_of: revision };
  return appended(before, model.name, basis, { revision, action: "file", ...parts });
}

/** The history after its last revision was taken back; undefined when there is none before. The rolled back one stays listed. */
export function takeBack(before: ModelHistory, by: string, reason: string, nowMs: number): ModelHistory | undefined {
  const { history } = before;
  const last = history.at(-1)!;
  const at = history.findIndex(({ revision }) => revision === last.version_of);
  const previous = history[at - 1];
  if (previous === undefined) return undefined;
  const revision = last.revision + 1;
  const parts = { at_ms: nowMs, by, reason, version: previous.version, version_of: previous.version_of };
  return appended(before, before.name, before.basis, { revision, action: "rollback", ...parts });
}

function appended(before: ModelHistory | undefined, name: string, basis: string, next: ModelRevision): ModelHistory {
  return { name, basis, history: [...(before?.history ?? []), next].slice(-HISTORY_MAX) };
}

/** The configuration with every model as its last revision has it: a stored one stands until the file's block changes. */
export function withModelRevisions(config: Config, stored: Readonly<Record<string, Uint8Array>>): Config {
  let models: Map<string, ModelConfig> | undefined;
  for (const [name, bytes] of Object.entries(stored)) {
    const model = config.models.get(name);
    const history = decodeModelHistory(bytes);
    const last = history?.history.at(-1);
    if (model === undefined || last?.action !== "rollback" || history?.basis !== modelDigest(model)) continue;
    if (!last.version.candidates.every((candidate) => config.backends.has(candidate))) continue;
    models ??= new Map(config.models);
    models.set(name, revised(model, last.version));
  }
  return models === undefined ? config : { ...config, models };
}

function revised(model: ModelConfig, { candidates, requires, class: className, midStream, sla }: ModelVersion): ModelConfig {
  return {
    ...model,
    candidates,
    requires: new Set(requires) as ModelConfig["requires"],
    class: className,
    midStream,
    sla: { ttftMs: sla.ttftMs, tpotMs: sla.tpotMs, deadlineMs: sla.deadlineMs },
  };
}
