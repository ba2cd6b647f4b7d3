import { PACE_LONE_FACTOR } from "./limits.ts";
import { fixedOf, gapMs, prefillMsPerToken, prefillShare, rampOf } from "./predict.ts";
import type { SchedulingClass } from "./resolve.ts";
import type { CompiledBackend, PolicySnapshot } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** Key-value memory counts as full at this use. */
const KV_FULL = 0.8;

/**
 * Whether a backend takes one more request of a class (routing, section 1.9). Every class stays within its ceiling's share of the
 * concurrency limit; classes with a ceiling below one also leave that much headroom in the time to first token, the pace and the
 * memory that better classes would find. One request always fits. `lift`: how far the ceiling is
 * raised this once, 0 = not at all, 1 = away.
 */
export function hasRoom(
  backend: CompiledBackend,
  state: BackendState,
  className: SchedulingClass,
  snapshot: PolicySnapshot,
  lift: number,
  nowMs: number,
): boolean {
  const own = className === "system" ? 1 : snapshot.config.classes[className].ceiling;
  const ceiling = own + (1 - own) * lift;
  const { load } = state;
  if (load >= Math.max(1, Math.round(state.limitValue * ceiling * rampOf(state, nowMs)))) return false;
  if (ceiling >= 1 || load === 0 || !backend.structural) return true;
  return crowding(backend, state, snapshot.ttftTargets[backend.index]!, snapshot.paceTargets[backend.index]!, nowMs) <= ceiling;
}

/** How much of its targets an engine has used up for whoever comes next, 1 = all: first token, pace, memory. */
export function crowding(backend: CompiledBackend, state: BackendState, ttftTargetMs: number, paceTargetMs: number, nowMs: number): number {
  const context = state.contextTokens + state.peerContextTokens;
  const gap = gapMs(backend, state, state.load + 1, context);
  const prefillMs = prefillMsPerToken(backend, state) * (state.prefillTokens + state.peerPrefillTokens);
  const first = (fixedOf(state, nowMs) + 1.5 * gap + prefillMs) / ttftTargetMs;
  const pace =
    gap /
    (1 - prefillShare(backend, state, nowMs)) /
    Math.max(paceTargetMs, PACE_LONE_FACTOR * gapMs(backend, state, 1, state.meanContext));
  const memory = state.kvCapacityTokens > 0 ? context / state.kvCapacityTokens / KV_FULL : 0;
  return Math.max(first, pace, memory);
}
