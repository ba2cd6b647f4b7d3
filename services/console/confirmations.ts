import type { Replica } from "#libs/peers/index.ts";
import type { ConsoleDeps } from "./deps.ts";
import { controlOf } from "./control-of.ts";

/** Longest that a change waits for everybody to have it, ms. */
const WAIT_MAX_MS = 30_000;

/** How often it looks, ms. */
const LOOK_MS = 25;

/** Only these decide who gets what: without one of them nothing is confirmed. */
const DECIDER = "policy-engine";

/**
 * Who has applied a revision of the control state that was made at `changedAtMs`, after waiting for all for up to the body's `wait_ms`
 * (default: not at all). Times are the replicas' own.
 */
export async function confirmationsOf(
  deps: ConsoleDeps,
  revision: bigint,
  changedAtMs: number,
  body: Readonly<Record<string, unknown>>,
): Promise<Record<string, unknown>> {
  const wait = body["wait_ms"];
  const untilMs = deps.clock.monotonicMs() + (typeof wait === "number" ? Math.min(WAIT_MAX_MS, Math.max(0, wait)) : 0);
  const control = controlOf(deps);
  let replicas = await control.replicas();
  while (!isComplete(replicas, revision) && deps.clock.monotonicMs() < untilMs) {
    await deps.clock.sleep(LOOK_MS);
    replicas = await control.replicas();
  }
  return {
    control_revision: Number(revision),
    confirmed: isComplete(replicas, revision),
    replicas: replicas.map((each) => replicaJson(each, revision, changedAtMs)),
  };
}

function isComplete(replicas: readonly Replica[], revision: bigint): boolean {
  return replicas.some(({ role }) => role === DECIDER) && replicas.every((each) => each.revision >= revision);
}

function replicaJson({ replica, role, revision, appliedAtMs }: Replica, wanted: bigint, changedAtMs: number): Record<string, unknown> {
  const confirmed = revision >= wanted;
  return {
    replica,
    role,
    revision: Number(revision),
    confirmed,
    applied_at: appliedAtMs === 0 ? null : new Date(appliedAtMs).toISOString(),
    after_ms: confirmed ? Math.max(0, Math.round(appliedAtMs - changedAtMs)) : null,
  };
}
