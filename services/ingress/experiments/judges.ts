import { create } from "@bufbuild/protobuf";
import { RecordScoreRequestSchema } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import { type Decision, Operation, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Random } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { systemTeam } from "#libs/money/index.ts";
import type { LedgerPeer } from "#libs/peers/index.ts";
import type { Attendance, Witness } from "../decisions.ts";
import type { Intake } from "../intake.ts";
import { isObject } from "../openai/parse.ts";
import type { Pipeline } from "../pipeline.ts";
import type { RequestSummary } from "../summary.ts";
import { readSaid } from "./said.ts";
import { type SideFate, SideQueue, type SideQueueDeps } from "./side-queue.ts";
import { judgeRequest, verdictOf } from "./verdict.ts";

/** Bounds of judgements: a sample is judged, and verdicts may come late. */
const JUDGE_LIMITS = { queueMax: 128, runningMax: 8, bytesMax: 16 * 1024 * 1024 } as const;

/** A judgement is given up after this, ms. */
const JUDGE_DEADLINE_MS = 120_000;

/** Random bytes of the word a verdict repeats. */
const NONCE_BYTES = 12;

/** What {@link Judges} needs. */
export interface JudgeDeps extends SideQueueDeps {
  readonly config: ConfigSource;
  readonly random: Random;
  readonly pipeline: Pipeline;
  readonly ledger: LedgerPeer;
}

/** What one judgement is about. */
interface Judged {
  readonly intake: Intake;
  readonly decision: Decision;
  readonly responseId: string;
  readonly body: Uint8Array;
  readonly pieces: readonly Uint8Array[];
  readonly nonce: string;
}

/**
 * Has a sample of an experiment's answers judged by a configured model: through the gateway's own dispatch, as class batch, paid by the
 * experiment. A verdict becomes a score of the arm; whatever else the judge says is counted and ignored.
 */
export class Judges implements Witness {
  readonly #deps: JudgeDeps;
  readonly #queue: SideQueue;
  readonly #unstored;

  constructor(deps: JudgeDeps) {
    this.#deps = deps;
    this.#queue = new SideQueue("judgements", "Judgements", deps, JUDGE_LIMITS);
    this.#unstored = deps.metrics.counter("signalbox_scores_unstored_total", "Verdicts the ledger did not take.", ["experiment"]);
  }

  attend(intake: Intake, decision: Decision): Attendance | undefined {
    if (decision.experiment === "" || intake.decide.operation !== Operation.CHAT) return undefined;
    const judge = this.#deps.config.current.experiments.get(decision.experiment)?.judge;
    if (judge === undefined || this.#deps.random.next() >= judge.share || !this.#queue.admits(decision.experiment)) return undefined;
    const { body } = intake;
    return { wantsContent: true, finished: (summary) => this.#offer(intake, decision.experiment, body, summary) };
  }

  /** No more judgements: the process leaves. */
  close(): void {
    this.#queue.close();
  }

  #offer(intake: Intake, experiment: string, body: Uint8Array, { status, winner }: RequestSummary): void {
    const pieces = winner?.collected?.pieces;
    // What was asked again elsewhere may have been answered outside of the experiment.
    if (status !== 200 || winner === undefined || pieces === undefined || winner.resume !== undefined) return;
    const { decision } = winner;
    if (decision.experiment !== experiment) return;
    const nonce = Buffer.alloc(NONCE_BYTES);
    this.#deps.random.bytes(nonce);
    const responseId = winner.result?.responseId || intake.requestId;
    const judged: Judged = { intake, decision, responseId, body, pieces, nonce: nonce.toString("hex") };
    this.#queue.offer({
      experiment,
      bytes: body.length + (winner.collected?.bytes ?? 0),
      intake: () => this.#questionOf(judged),
      answered: (answer) => this.#heard(judged, answer),
    });
  }

  #questionOf({ intake, decision, body, pieces, nonce }: Judged): Intake | undefined {
    const judge = this.#deps.config.current.experiments.get(decision.experiment)?.judge;
    const said = readSaid(pieces, intake.stream);
    const asked: unknown = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString());
    if (judge === undefined || said === undefined || !isObject(asked) || !Array.isArray(asked["messages"])) return undefined;
    const question = judgeRequest({ model: judge.model, prompt: judge.prompt, messages: asked["messages"] as unknown[], said, nonce });
    const { tenant, tags } = intake.decide;
    return this.#deps.pipeline.prepareInternal(question, {
      requestId: `${intake.requestId}:judge`,
      decide: { tenant, tags, requestClass: RequestClass.BATCH, deadlineMs: JUDGE_DEADLINE_MS, role: "judge" },
      internal: {
        team: systemTeam("judge", decision.experiment),
        experiment: decision.experiment,
        arm: decision.arm,
        revision: decision.experimentRevision,
        compare: undefined,
      },
    });
  }

  #heard({ intake, decision, responseId, nonce }: Judged, answer: readonly Uint8Array[]): SideFate {
    const value = verdictOf(readSaid(answer, false)?.text ?? "", nonce);
    if (value === undefined) return "garbage";
    const { experiment, arm, experimentRevision } = decision;
    const request = create(RecordScoreRequestSchema, {
      score: {
        responseId,
        tenant: intake.decide.tenant,
        metric: "quality",
        score: value,
        source: "judge",
        experiment,
        arm,
        experimentRevision,
      },
      attributed: true,
    });
    this.#deps.ledger.recordScore(request).catch(() => this.#unstored.with(experiment).add());
    return "answered";
  }
}
