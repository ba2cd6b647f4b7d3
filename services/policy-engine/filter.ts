import { Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { contextRefusal, fitsContext, lackOf, onlyEmbeds, type Refusal, TOO_DEAR, TRIED } from "#libs/capability/index.ts";
import { type CompiledRule, RULE_EXCLUDED, RULE_LABEL, ruledOutBy } from "#libs/rules/index.ts";
import type { Resolved, SchedulingClass } from "./resolve.ts";
import type { CompiledBackend, PolicySnapshot } from "./snapshot.ts";
import type { BackendState } from "./state.ts";

/** Why a candidate is out. The order is the order of judging: the first step that leaves nobody names the denial. */
export const OUT = {
  none: 0,
  capability: 1,
  context: 2,
  label: 3,
  rule: 4,
  price: 5,
  cost: 6,
  rateLimit: 7,
  tried: 8,
  drain: 9,
  breaker: 10,
  trial: 11,
  ejected: 12,
} as const;

/** One value of OUT. */
export type Out = (typeof OUT)[keyof typeof OUT];

/** What the hard constraints look at, besides the backend. */
export interface HardNeeds {
  /** Capability bits. */
  readonly needs: number;
  readonly inputTokens: number;
  readonly maxOutputTokens: number;
  /** The first rule that applies. */
  readonly rule: CompiledRule | undefined;
  readonly request: { readonly operation: Operation };
}

/** Constraints that hold whatever the load: capability, context, rules. Precomputed masks and arrays, nothing allocated. */
export function judgeHard(snapshot: PolicySnapshot, index: number, needs: HardNeeds): Out {
  if ((needs.needs & ~snapshot.masks[index]!) !== 0) return OUT.capability;
  // An embeddings request holds many inputs, each of which has a context of its own.
  if (needs.request.operation !== Operation.EMBEDDINGS) {
    if (onlyEmbeds(snapshot.masks[index]!)) return OUT.capability;
    if (!fitsContext(needs.inputTokens, needs.maxOutputTokens, snapshot.contexts[index]!)) return OUT.context;
  }
  if (needs.rule !== undefined) {
    const verdict = needs.rule.verdicts[index]!;
    if (verdict === RULE_LABEL) return OUT.label;
    if (verdict === RULE_EXCLUDED) return OUT.rule;
  }
  return OUT.none;
}

/** Share of a provider's rate limits that the gateway's own requests (copies, judges) leave to the clients'. */
const SPARED = 0.5;

/** The provider's own limits: Retry-After, what its headers left, the configured rates. */
export function judgeRate(state: BackendState, resolved: Resolved, nowMs: number): Out {
  return rateWaitMs(state, resolved, nowMs) > 0 ? OUT.rateLimit : OUT.none;
}

/** Ms until those limits let a request through; 0 = now. */
export function rateWaitMs(state: BackendState, { request, inputTokens }: Resolved, nowMs: number): number {
  return state.rates.waitMs(inputTokens, nowMs, request.role === "" ? 0 : SPARED);
}

/** A health report older than this says nothing any more, ms. */
const HEALTH_STALE_MS = 10_000;

/** Engines that must hold a breaker open before one that does not believes them: one may be cut off by itself. */
const PEERS_AGREEING = 2;

/** Whether the backend may be used now: not tried, not drained, breaker closed or a trial free, not ejected by agreement. */
export function judgeHealth(snapshot: PolicySnapshot, state: BackendState, index: number, tried: boolean, nowMs: number): Out {
  if (tried) return OUT.tried;
  if (snapshot.drained[index] === 1) return OUT.drain;
  const breaker = state.breaker.state(nowMs);
  if (breaker.kind === "open") return OUT.breaker;
  if (breaker.kind === "half_open") return breaker.trialSinceMs === undefined ? OUT.none : OUT.trial;
  if (state.ejected && nowMs - state.healthAtMs < HEALTH_STALE_MS) return OUT.ejected;
  if (state.peerBreakersOpen >= PEERS_AGREEING) return OUT.ejected;
  return OUT.none;
}

/** Whether an ejected backend was ejected for its pace or its answers, not because it failed: several engines' open breakers are no statistics. */
export function isStatistical(state: BackendState): boolean {
  return state.peerBreakersOpen < PEERS_AGREEING && state.ejectedAlive;
}

/** Requirement and one line for a person. Only called for answers, never while judging. */
export function describe(
  out: Out,
  backend: CompiledBackend,
  state: BackendState,
  snapshot: PolicySnapshot,
  needs: Resolved,
  nowMs: number,
): Refusal {
  switch (out) {
    case OUT.capability:
      return lackOf(needs.needs, snapshot.masks[backend.index]!);
    case OUT.context:
      return contextRefusal(needs.inputTokens, needs.maxOutputTokens, backend.config.contextTokens);
    case OUT.label:
      return ruledOutBy(needs.rule!, RULE_LABEL);
    case OUT.rule:
      return ruledOutBy(needs.rule!, RULE_EXCLUDED);
    case OUT.price:
      return { requirement: "price", detail: "has no price, and prices.on_unknown is reject" };
    case OUT.cost:
      return TOO_DEAR;
    case OUT.rateLimit:
      return {
        requirement: "rate_limit",
        detail: `the provider's limit is used up for ${seconds(rateWaitMs(state, needs, nowMs))}`,
      };
    case OUT.tried:
      return TRIED;
    case OUT.drain:
      return { requirement: "drain", detail: "drained" };
    case OUT.breaker: {
      const breaker = state.breaker.state(nowMs);
      const leftMs = breaker.kind === "open" ? breaker.untilMs - nowMs : 0;
      return { requirement: "health", detail: `breaker open for ${seconds(leftMs)}` };
    }
    case OUT.trial: {
      const trial = state.breaker.canAdmit(nowMs) ? "left to another request" : "under way";
      return { requirement: "health", detail: `breaker half open, its trial is ${trial}` };
    }
    case OUT.ejected:
      return { requirement: "health", detail: state.healthReason === "" ? "ejected" : `ejected: ${state.healthReason}` };
    case OUT.none:
      return { requirement: "", detail: "" };
  }
}

/** The same for a candidate that would do but takes no more now: it is full, or others wait for it already. */
export function describeRoom(isBusy: boolean, state: BackendState, className: SchedulingClass, snapshot: PolicySnapshot): Refusal {
  if (!isBusy) return { requirement: "room", detail: "others wait for it already" };
  const ceiling = className === "system" ? 1 : snapshot.config.classes[className].ceiling;
  const share = ceiling < 1 ? `, and ${className} requests get ${Math.round(100 * ceiling)} % of it` : "";
  return { requirement: "room", detail: `${Math.ceil(state.load)} in flight of ${Math.round(state.limitValue)}${share}` };
}

function seconds(ms: number): string {
  return `${Math.max(0.1, Math.ceil(ms / 100) / 10)} s more`;
}
