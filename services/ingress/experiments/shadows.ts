import { type Decision, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { systemTeam } from "#libs/money/index.ts";
import type { Attendance, Witness } from "../decisions.ts";
import type { Intake } from "../intake.ts";
import type { RequestSummary } from "../summary.ts";
import { readSaid } from "./said.ts";
import { SideQueue, type SideQueueDeps } from "./side-queue.ts";

/** Bounds of copies: one is a sample, not a debt. */
export const SHADOW_LIMITS = { queueMax: 256, runningMax: 16, bytesMax: 32 * 1024 * 1024 } as const;

/** A copy is given up after this, ms. */
const SHADOW_DEADLINE_MS = 60_000;

/** What {@link Shadows} needs. */
export interface ShadowDeps extends SideQueueDeps {
  readonly nextId: () => string;
}

/**
 * Copies of clients' requests to arms whose answers nobody sees. A copy is made after the client has its answer, from the very bytes it
 * sent; it is decided like the client's request, goes as class batch, and is paid by the experiment.
 */
export class Shadows implements Witness {
  readonly #deps: ShadowDeps;
  readonly #queue: SideQueue;

  constructor(deps: ShadowDeps) {
    this.#deps = deps;
    this.#queue = new SideQueue("shadow_copies", "Shadow copies", deps, SHADOW_LIMITS);
  }

  attend(intake: Intake, decision: Decision): Attendance | undefined {
    if (decision.shadowExperiment === "" || !this.#queue.admits(decision.shadowExperiment)) return undefined;
    const { body } = intake;
    return { wantsContent: true, finished: (summary) => this.#offer(intake, decision, body, summary) };
  }

  /** No more copies: the process leaves. */
  close(): void {
    this.#queue.close();
  }

  #offer(intake: Intake, decision: Decision, body: Uint8Array, { status, winner }: RequestSummary): void {
    // A request that failed or was left has no answer to hold a copy's against.
    if (status !== 200 || winner === undefined || winner.resume !== undefined) return;
    const pieces = winner.collected?.pieces;
    this.#queue.offer({
      experiment: decision.shadowExperiment,
      bytes: body.length + (winner.collected?.bytes ?? 0),
      intake: () => this.#copyOf(intake, decision, body, pieces),
    });
  }

  #copyOf(intake: Intake, decision: Decision, body: Uint8Array, pieces: readonly Uint8Array[] | undefined): Intake {
    const { clock, nextId } = this.#deps;
    const { shadowExperiment: experiment, shadowArm: arm } = decision;
    const requestId = `${intake.requestId}:shadow`;
    return {
      ...intake,
      requestId,
      body,
      resumable: false,
      shareable: false,
      trace: { ...intake.trace, sampled: false },
      startedAtMs: clock.now(),
      startedMs: clock.monotonicMs(),
      decide: {
        ...intake.decide,
        decisionId: nextId(),
        requestId,
        requestClass: RequestClass.BATCH,
        ttftTargetMs: 0,
        deadlineMs: SHADOW_DEADLINE_MS,
        maxCostNanoUsd: 0n,
        exclude: [],
        explain: false,
        forcedArm: `${experiment}=${arm}`,
        role: "shadow",
      },
      internal: {
        team: systemTeam("shadow", experiment),
        experiment,
        arm,
        revision: decision.experimentRevision,
        compare: pieces && readSaid(pieces, intake.stream),
      },
    };
  }
}
