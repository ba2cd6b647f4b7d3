import { create, toBinary } from "@bufbuild/protobuf";
import { ScoresRecordedSchema } from "#gen/signalbox/events/v1/events_pb.ts";
import { ScoreSchema, ScoreSumSchema, type Score, type ScoreSum } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import {
  RecordScoreResponseSchema,
  type RecordScoreRequest,
  type RecordScoreResponse,
} from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { EventBus } from "#libs/bus/bus.ts";
import { SUBJECTS } from "#libs/bus/subjects.ts";
import type { Clock } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { LedgerStore } from "../store.ts";
import type { ScoreSums } from "./answers.ts";

/** Longest name of a metric, and longest comment kept, characters. */
const METRIC_MAX = 64;
const COMMENT_MAX = 2_000;
const ID_MAX = 256;

const SOURCES: ReadonlySet<string> = new Set(["feedback", "judge"]);

/** What the desk needs. */
export interface ScoreDeskDeps {
  readonly store: LedgerStore;
  readonly bus: EventBus;
  readonly clock: Clock;
}

/** Stores scores with the answers they are about, and tells those who compare arms. */
export class ScoreDesk {
  readonly #deps: ScoreDeskDeps;

  constructor(deps: ScoreDeskDeps) {
    this.#deps = deps;
  }

  /** Stores a score; the last one of a response, metric and source counts. Rejects with REQUEST_MALFORMED, or `ledger_unavailable`. */
  async record({ score: given, attributed }: RecordScoreRequest): Promise<RecordScoreResponse> {
    const score = checked(given);
    if (!attributed) {
      const answer = await this.#deps.store.findAnswer(score.tenant, score.responseId);
      if (answer === undefined) return create(RecordScoreResponseSchema, { found: false });
      score.experiment = answer.experiment;
      score.arm = answer.arm;
      score.experimentRevision = answer.revision;
    }
    score.atMs ||= this.#deps.clock.now();
    const replaced = await this.#deps.store.saveScore({ ...score, revision: score.experimentRevision });
    if (score.experiment !== "") this.#tell(score, replaced);
    return create(RecordScoreResponseSchema, { found: true, score, replaces: replaced !== undefined });
  }

  /** Sums of an experiment's scores; of all when it is empty. */
  async sums(experiment: string): Promise<readonly ScoreSum[]> {
    return (await this.#deps.store.scoreSums(experiment)).map(sumOf);
  }

  #tell(score: Score, replaced: number | undefined): void {
    const event = create(ScoresRecordedSchema, {
      scores: [{ score: { ...score, comment: "" }, replaces: replaced !== undefined, replacedScore: replaced ?? 0 }],
    });
    this.#deps.bus.publish(SUBJECTS.scoreRecorded, toBinary(ScoresRecordedSchema, event));
  }
}

/** A copy that can be stored. */
function checked(given: Score | undefined): Score {
  const { responseId = "", tenant = "", source = "" } = given ?? {};
  if (responseId === "" || responseId.length > ID_MAX) throw refusal("response_id", `response_id: 1 to ${ID_MAX} characters`);
  if (tenant === "") throw refusal("tenant", "tenant is needed");
  if (!SOURCES.has(source)) throw refusal("source", "source: feedback or judge");
  const score = given!.score;
  if (!(score >= 0 && score <= 1)) throw refusal("score", "score: 0 to 1");
  const metric = given!.metric === "" ? "quality" : given!.metric;
  if (metric.length > METRIC_MAX) throw refusal("metric", `metric: at most ${METRIC_MAX} characters`);
  return create(ScoreSchema, { ...given!, metric, comment: given!.comment.slice(0, COMMENT_MAX) });
}

function sumOf(row: ScoreSums): ScoreSum {
  const mean = row.sum / row.count;
  return create(ScoreSumSchema, {
    experiment: row.experiment,
    arm: row.arm,
    experimentRevision: row.revision,
    metric: row.metric,
    source: row.source,
    count: BigInt(row.count),
    mean,
    // Rounding may leave a negative rest where all scores are the same.
    m2: Math.max(0, row.sumOfSquares - row.sum * mean),
  });
}

function refusal(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}
