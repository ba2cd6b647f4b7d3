import { create } from "@bufbuild/protobuf";
import { type ControlState, ControlStateSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import type { Candidate, DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { DecisionRecord } from "#gen/signalbox/policy/v1/policy_service_pb.ts";
import type { Config } from "#libs/config/model.ts";
import { encodeExperiment, experimentsInForce } from "#libs/experiments/index.ts";
import { EMPTY_PRICE_INDEX } from "#libs/money/index.ts";
import { extendRanges } from "#libs/statistics/index.ts";
import { judgeHard, OUT } from "./filter.ts";
import { recordedWeights } from "./judge.ts";
import { policyKey, type RecordedPolicy } from "./recorded-policy.ts";
import { pickAgain } from "./replay.ts";
import { isDenial, resolve, type Resolved } from "./resolve.ts";
import { compileSnapshot, type PolicySnapshot } from "./snapshot.ts";

/** What is tried on recorded decisions; nothing = the policy they were made under. */
export interface PolicyChange {
  /** Another configuration. */
  readonly config?: Config | undefined;
  /** Shares by arm, by experiment; the control arm takes what they leave. */
  readonly weights: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** Backends that nobody may use. */
  readonly without: ReadonlySet<string>;
}

/** The sums of one side: what was decided, or what would have been. */
export interface WhatIfSums {
  decisions: number;
  denied: number;
  costNanoUsd: bigint;
  /** Sums of the first candidates' predictions, ms. */
  ttftMs: number;
  tpotMs: number;
  /** First choices by backend, and requests by `experiment=arm`. */
  readonly backends: Map<string, number>;
  readonly arms: Map<string, number>;
}

/** What a replay came to. */
export interface WhatIfReport {
  readonly records: number;
  readonly replayed: number;
  /** Replays whose experiment, arm and candidates in order are those recorded. */
  readonly same: number;
  /** Why the others were not replayed, with how many. */
  readonly left: ReadonlyMap<string, number>;
  readonly before: WhatIfSums;
  readonly after: WhatIfSums;
  /** By minute since the epoch: costs and times to first token, before and after. */
  readonly minutes: ReadonlyMap<number, readonly [before: WhatIfSums, after: WhatIfSums]>;
}

/** Snapshots kept compiled: policies change rarely. */
const SNAPSHOTS_MAX = 64;

interface Outcome {
  readonly experiment: string;
  readonly arm: string;
  /** Best first; empty = denied. */
  readonly order: readonly string[];
  readonly first: Candidate | undefined;
}

/** Runs recorded decisions through a policy again: the same resolution, assignment, hard filter and choice as when they were made. */
export class WhatIf {
  readonly #policies: (name: string) => RecordedPolicy | undefined;
  readonly #change: PolicyChange;
  readonly #snapshots = new Map<string, PolicySnapshot | undefined>();
  readonly #left = new Map<string, number>();
  readonly #before = noSums();
  readonly #after = noSums();
  readonly #minutes = new Map<number, readonly [WhatIfSums, WhatIfSums]>();
  #records = 0;
  #same = 0;

  /** `policies` finds what decisions were made under, by the name that they were kept by. */
  constructor(policies: (name: string) => RecordedPolicy | undefined, change: PolicyChange) {
    this.#policies = policies;
    this.#change = change;
  }

  get report(): WhatIfReport {
    const { decisions } = this.#before;
    const sides = { before: this.#before, after: this.#after, minutes: this.#minutes };
    return { records: this.#records, replayed: decisions, same: this.#same, left: this.#left, ...sides };
  }

  /** Takes in one record; ids alone are no decisions. */
  take(record: DecisionRecord): void {
    const { request, decision } = record;
    if (request === undefined || decision === undefined) return;
    this.#records++;
    const recorded = outcomeOf(record);
    if (recorded.order.length === 0 && decision.excluded.length === 0) return this.#leave("refused before any backend was looked at");
    const snapshot = this.#snapshotOf(record);
    if (snapshot === undefined) return this.#leave("the policy they were made under is gone");
    const again = this.#again(record, request, snapshot);
    if (again === undefined) return this.#leave("nothing recorded of the backends they would go to");
    if (isSame(recorded, again)) this.#same++;
    const minute = Math.floor(record.decidedAtMs / 60_000);
    const minutes = this.#minutes.get(minute) ?? [noSums(), noSums()];
    this.#minutes.set(minute, minutes);
    for (const sums of [this.#before, minutes[0]]) addTo(sums, recorded);
    for (const sums of [this.#after, minutes[1]]) addTo(sums, again);
  }

  #leave(why: string): void {
    this.#left.set(why, (this.#left.get(why) ?? 0) + 1);
  }

  #snapshotOf(record: DecisionRecord): PolicySnapshot | undefined {
    const name = policyKey(record.decision?.configVersion ?? "", record.controlRevision);
    if (this.#snapshots.has(name)) return this.#snapshots.get(name);
    const policy = this.#policies(name);
    const snapshot = policy && changed(policy, this.#change);
    if (this.#snapshots.size >= SNAPSHOTS_MAX) this.#snapshots.clear();
    this.#snapshots.set(name, snapshot);
    return snapshot;
  }

  /** Undefined where the record says nothing of the backends that the policy would choose among. */
  #again(record: DecisionRecord, request: DecideRequest, snapshot: PolicySnapshot): Outcome | undefined {
    const resolved = resolve(request, snapshot);
    if (isDenial(resolved)) return { experiment: "", arm: "", order: [], first: undefined };
    const chosen = this.#choose(record, resolved, snapshot);
    const { assignment } = resolved;
    if (chosen === undefined || chosen.order.length > 0 || assignment === undefined || request.role !== "") return chosen;
    const { experiment } = assignment;
    if (assignment.arm === experiment.control) return chosen;
    const own = { experiment, arm: experiment.control };
    return this.#choose(record, { ...resolved, model: experiment.control.model, assignment: own }, snapshot);
  }

  #choose(record: DecisionRecord, resolved: Resolved, snapshot: PolicySnapshot): Outcome | undefined {
    const known = candidatesOf(record);
    const names: string[] = [];
    const able: Candidate[] = [];
    let unknown = 0;
    for (const index of resolved.model.candidates) {
      const { name } = snapshot.backends[index]!;
      const candidate = known.get(name);
      if (candidate === undefined) unknown++;
      if (candidate === undefined || candidate.excluded !== undefined) continue;
      if (this.#change.without.has(name) || judgeHard(snapshot, index, resolved) !== OUT.none) continue;
      names.push(name);
      able.push(candidate);
    }
    if (names.length === 0 && unknown > 0) return undefined;
    const weights = recordedWeights(resolved.class, finite(resolved.ttftTargetMs), finite(resolved.tpotTargetMs));
    const order = pickAgain(record, able, names, weights, true);
    const { assignment } = resolved;
    return {
      experiment: assignment?.experiment.experiment.name ?? "",
      arm: assignment?.arm.name ?? "",
      order,
      first: known.get(order[0] ?? ""),
    };
  }
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : 0;
}

/** The policy with the change in it. */
function changed({ config, control }: RecordedPolicy, change: PolicyChange): PolicySnapshot {
  const next = change.config ?? config;
  const stored: Record<string, Uint8Array> = { ...control?.experiments };
  for (const [name, experiment] of experimentsInForce(next, stored)) {
    const weights = change.weights.get(name);
    if (weights === undefined) continue;
    const others = experiment.arms.map((arm) => ({ name: arm.name, weight: weights.get(arm.name) ?? arm.weight }));
    const taken = others.reduce((sum, arm) => sum + (arm.name === experiment.control ? 0 : arm.weight), 0);
    const shares = others.map((arm) => (arm.name === experiment.control ? { ...arm, weight: Math.max(0, 1 - taken) } : arm));
    const ranges = extendRanges(experiment.arms, shares);
    const arms = experiment.arms.map((arm, at) => ({ ...arm, weight: shares[at]!.weight, ranges: ranges[at]!.ranges }));
    stored[name] = encodeExperiment({ ...experiment, arms });
  }
  const state: ControlState = { ...(control ?? create(ControlStateSchema)), experiments: stored };
  return compileSnapshot(next, state, EMPTY_PRICE_INDEX);
}

/** Everything that a record says of backends, by name: those it allowed, those ruled out, and those of other arms. */
function candidatesOf({ decision, others }: DecisionRecord): ReadonlyMap<string, Candidate> {
  const known = new Map<string, Candidate>();
  for (const candidate of others) known.set(candidate.backend, candidate);
  for (const candidate of decision?.excluded ?? []) known.set(candidate.backend, candidate);
  if (decision?.result.case === "allow") for (const candidate of decision.result.value.candidates) known.set(candidate.backend, candidate);
  return known;
}

function outcomeOf({ decision }: DecisionRecord): Outcome {
  const candidates = decision?.result.case === "allow" ? decision.result.value.candidates : [];
  return {
    experiment: decision?.experiment ?? "",
    arm: decision?.arm ?? "",
    order: candidates.map(({ backend }) => backend),
    first: candidates[0],
  };
}

function isSame(a: Outcome, b: Outcome): boolean {
  return (
    a.experiment === b.experiment &&
    a.arm === b.arm &&
    a.order.length === b.order.length &&
    a.order.every((name, at) => b.order[at] === name)
  );
}

function noSums(): WhatIfSums {
  return { decisions: 0, denied: 0, costNanoUsd: 0n, ttftMs: 0, tpotMs: 0, backends: new Map(), arms: new Map() };
}

function addTo(sums: WhatIfSums, { experiment, arm, first }: Outcome): void {
  sums.decisions++;
  if (experiment !== "") count(sums.arms, `${experiment}=${arm}`);
  if (first === undefined) {
    sums.denied++;
    return;
  }
  count(sums.backends, first.backend);
  sums.costNanoUsd += first.costNanoUsd;
  sums.ttftMs += first.predictedTtftMs;
  sums.tpotMs += first.predictedTpotMs;
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
