import { create } from "@bufbuild/protobuf";
import { RecordScoreRequestSchema, type RecordScoreRequest } from "#gen/signalbox/ledger/v1/ledger_service_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { LedgerPeer, RecordScoreResponse } from "#libs/peers/index.ts";
import type { Counter, Family, Metrics } from "#libs/telemetry/index.ts";
import type { Caller } from "../auth.ts";
import { hasControl } from "../openai/chat.ts";
import { type JsonObject, parseBody } from "../openai/parse.ts";
import type { RecentAnswers } from "./recent-answers.ts";

/** Largest feedback, bytes: a comment of a page. */
export const FEEDBACK_MAX_BYTES = 16 * 1024;

/** Longest response id, metric name and comment, characters. */
const ID_MAX = 256;
const METRIC_MAX = 64;
const COMMENT_MAX = 2_000;

const METRIC = /^[a-z][a-z0-9_.-]*$/;

/** Feedback that is being stored at once; more is refused, because each may wait for its answer to be booked. */
const RUNNING_MAX = 256;

/** An answer may be scored before it is booked: it is looked for this often, so long, ms. */
const LOOK_EVERY_MS = 300;
const LOOKS = 8;

/** When feedback that could not be stored may come again, ms. */
const RETRY_MS = 1_000;

/** What {@link FeedbackDesk} needs. */
export interface FeedbackDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly ledger: LedgerPeer;
  readonly recent: RecentAnswers;
}

/** A score as a caller gives it. */
interface Feedback {
  readonly responseId: string;
  readonly score: number;
  readonly metric: string;
  readonly comment: string;
}

/** Takes scores of answers from the tenants that got them. */
export class FeedbackDesk {
  readonly #deps: FeedbackDeps;
  readonly #taken: Family<Counter>;
  #running = 0;

  constructor(deps: FeedbackDeps) {
    this.#deps = deps;
    this.#taken = deps.metrics.counter("signalbox_feedback_total", "Feedback by what became of it.", ["outcome"]);
  }

  /** Stores what a caller posts and resolves with the answer's body. Rejects with a SignalboxError for the caller. */
  async accept(caller: Caller, body: Uint8Array): Promise<string> {
    const feedback = readFeedback(parseBody(body));
    if (this.#running >= RUNNING_MAX) {
      this.#taken.with("refused").add();
      throw new SignalboxError("QUEUE_FULL", "Too much feedback is being stored at the moment.", { retryAfterMs: RETRY_MS });
    }
    this.#running++;
    try {
      const { score } = await this.#store(caller, feedback);
      this.#taken.with("stored").add();
      const experiment = score?.experiment ? `${score.experiment}=${score.arm}` : null;
      const { responseId: response_id, metric } = feedback;
      return JSON.stringify({ object: "feedback", response_id, metric, score: feedback.score, experiment });
    } catch (error) {
      const known = error instanceof SignalboxError && error.code === "response_not_found";
      this.#taken.with(known ? "unknown_response" : "failed").add();
      throw error;
    } finally {
      this.#running--;
    }
  }

  async #store({ tenant }: Caller, feedback: Feedback): Promise<RecordScoreResponse> {
    const { clock, recent, config } = this.#deps;
    const arm = recent.find(tenant, feedback.responseId);
    const request = create(RecordScoreRequestSchema, {
      score: {
        tenant,
        source: "feedback",
        responseId: feedback.responseId,
        metric: feedback.metric,
        score: feedback.score,
        // What people write may hold what they asked: it is kept only where content may be.
        comment: config.current.telemetry.captureContent ? feedback.comment : "",
        ...arm,
      },
      attributed: arm !== undefined,
    });
    for (let look = 1; ; look++) {
      const stored = await this.#ask(request);
      if (stored.found) return stored;
      if (look === LOOKS) break;
      await clock.sleep(LOOK_EVERY_MS);
    }
    throw new SignalboxError("ROUTE_UNKNOWN", `You got no answer with the id '${feedback.responseId}'.`, {
      code: "response_not_found",
      param: "response_id",
    });
  }

  async #ask(request: RecordScoreRequest): Promise<RecordScoreResponse> {
    try {
      return await this.#deps.ledger.recordScore(request);
    } catch (cause) {
      throw new SignalboxError("NO_BACKEND", "Feedback cannot be stored at the moment.", {
        code: "feedback_unavailable",
        retryAfterMs: RETRY_MS,
        cause,
      });
    }
  }
}

/** Reads feedback. Throws REQUEST_MALFORMED naming the parameter. */
export function readFeedback(body: JsonObject): Feedback {
  const responseId = body["response_id"];
  if (typeof responseId !== "string" || responseId === "" || responseId.length > ID_MAX || hasControl(responseId))
    throw invalid("response_id", `'response_id' must be the id of an answer, a string of at most ${ID_MAX} characters.`);
  const score = body["score"];
  if (typeof score !== "number" || !(score >= 0 && score <= 1))
    throw invalid("score", "'score' must be a number from 0 (worst) to 1 (best).");
  const metric = body["metric"] ?? "quality";
  if (typeof metric !== "string" || metric.length > METRIC_MAX || !METRIC.test(metric))
    throw invalid("metric", `'metric' must be a name of lower-case letters, digits, '_', '-' and '.', at most ${METRIC_MAX} characters.`);
  const comment = body["comment"] ?? "";
  if (typeof comment !== "string" || comment.length > COMMENT_MAX)
    throw invalid("comment", `'comment' must be a string of at most ${COMMENT_MAX} characters.`);
  return { responseId, score, metric, comment };
}

function invalid(param: string, message: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", message, { param });
}
