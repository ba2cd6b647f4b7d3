import type { Clock, LoopLag, Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { LedgerPeer } from "#libs/peers/index.ts";
import type { Logger, Metrics } from "#libs/telemetry/index.ts";
import type { Admission } from "../budgets/admission.ts";
import type { Attendance, Witness } from "../decisions.ts";
import type { DispatchDeps } from "../dispatch-deps.ts";
import type { Intake } from "../intake.ts";
import { InternalTraffic } from "../internal.ts";
import type { Pipeline } from "../pipeline.ts";
import type { RequestSummary } from "../summary.ts";
import { Judges } from "./judges.ts";
import { RecentAnswers } from "./recent-answers.ts";
import { Shadows } from "./shadows.ts";

/** What {@link ExperimentSide} needs. */
export interface SideDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly loopLag: LoopLag;
  readonly ledger: LedgerPeer;
  readonly random: Random;
  readonly pipeline: Pipeline;
  readonly admission: Admission;
  readonly nextId: () => string;
  /** What the gateway's own requests are dispatched with. */
  readonly dispatch: Omit<DispatchDeps, "recorder" | "witness" | "budgets">;
}

/** Everything that is done about experiments beside the clients' requests: copies, judges. */
export class ExperimentSide implements Witness {
  readonly #traffic: InternalTraffic;
  /** Answers that can be scored before they are booked. */
  readonly recent = new RecentAnswers();
  readonly #shadows: Shadows;
  readonly #judges: Judges;

  constructor(deps: SideDeps) {
    const { clock, metrics, loopLag, nextId, config, random, pipeline, ledger } = deps;
    const bytes = metrics.gauge("signalbox_answers_collected_bytes", "Bytes of answers held for the comparison of arms.").with();
    metrics.onScrape(() => bytes.set(deps.dispatch.collecting.bytes));
    this.#traffic = new InternalTraffic(deps.dispatch, clock, deps.admission);
    const queue = { clock, metrics, loopLag, traffic: this.#traffic };
    this.#shadows = new Shadows({ ...queue, nextId });
    this.#judges = new Judges({ ...queue, config, random, pipeline, ledger });
  }

  attend(intake: Intake, decision: Parameters<Witness["attend"]>[1]): Attendance | undefined {
    if (decision.experiment === "") return undefined;
    const beside = together(this.#shadows.attend(intake, decision), this.#judges.attend(intake, decision));
    return together(this.recent.attend(intake, decision), beside);
  }

  start(): void {
    this.#traffic.start();
  }

  /** Gives up what is under way; resolves when it is settled. */
  close(): Promise<void> {
    this.#shadows.close();
    this.#judges.close();
    return this.#traffic.whenIdle();
  }

  stop(): void {
    this.#shadows.close();
    this.#judges.close();
    this.#traffic.stop();
  }
}

/** Both attendances of a request, or the only one. */
export function together(a: Attendance | undefined, b: Attendance | undefined): Attendance | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return {
    wantsContent: a.wantsContent || b.wantsContent,
    finished: (summary: RequestSummary) => {
      a.finished(summary);
      b.finished(summary);
    },
  };
}
