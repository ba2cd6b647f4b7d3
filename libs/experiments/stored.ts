import { createHash } from "node:crypto";
import type { Config, ExperimentConfig } from "#libs/config/model.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { type Experiment, experimentOf } from "./experiment.ts";

const DIGEST_CHARS = 32;

/** Digest of the file's block of an experiment; empty = there is none. */
export function blockDigest(config: ExperimentConfig | undefined): string {
  if (config === undefined) return "";
  const text = JSON.stringify(config, (_, value: unknown) => {
    if (value instanceof Map) return [...value];
    return typeof value === "bigint" ? String(value) : value;
  });
  return createHash("sha256").update(text).digest("hex").slice(0, DIGEST_CHARS);
}

/** A revision as control state carries it. */
export function encodeExperiment(experiment: Experiment): Uint8Array {
  return Buffer.from(JSON.stringify(experiment));
}

/** Reads a stored revision. Throws SignalboxError INTERNAL when it is none. */
export function decodeExperiment(stored: Uint8Array): Experiment {
  const value: unknown = JSON.parse(Buffer.from(stored).toString("utf8"));
  if (isExperiment(value)) return value;
  throw new SignalboxError("INTERNAL", "a stored experiment cannot be read");
}

function isExperiment(value: unknown): value is Experiment {
  if (typeof value !== "object" || value === null) return false;
  const { name, revision, model, arms } = value as Partial<Experiment>;
  return typeof name === "string" && typeof revision === "number" && typeof model === "string" && Array.isArray(arms);
}

/**
 * The experiments in force, by name: a stored revision wins until the file's block of that name changes (or goes), then the file does.
 * Unreadable revisions count as absent.
 */
export function experimentsInForce(config: Config, stored: Readonly<Record<string, Uint8Array>>): ReadonlyMap<string, Experiment> {
  const inForce = new Map<string, Experiment>();
  for (const name of new Set([...config.experiments.keys(), ...Object.keys(stored)].toSorted())) {
    const experiment = experimentInForce(name, config, stored[name]);
    if (experiment !== undefined) inForce.set(name, experiment);
  }
  return inForce;
}

function experimentInForce(name: string, config: Config, stored: Uint8Array | undefined): Experiment | undefined {
  const block = config.experiments.get(name);
  const basis = blockDigest(block);
  const kept = stored && readable(stored);
  if (kept !== undefined && kept.basis === basis) return kept;
  return block && experimentOf(block, (kept?.revision ?? 0) + 1, basis);
}

function readable(stored: Uint8Array): Experiment | undefined {
  try {
    return decodeExperiment(stored);
  } catch {
    return undefined;
  }
}
