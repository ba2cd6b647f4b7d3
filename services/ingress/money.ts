import type { AttemptEnd, Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { type AttemptRecord, RecordKind } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { type AnswerReview, type Candidate, type Decision, Operation, Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { costOf, seenTokens, tokensIn, upperBound } from "#libs/money/index.ts";
import type { Intake } from "./intake.ts";
import { payerOf } from "./internal.ts";
import { OUTPUT_RESERVE_TOKENS } from "./limits.ts";
import type { OutboxPort } from "./outbox-port.ts";
import type { Prices } from "./prices.ts";

/** Whether an attempt's money bought the answer. */
export type Purpose = "billed" | "waste_retry" | "waste_hedge" | "waste_aborted" | "waste_preempted" | "resumed";

/** What a record says about who and what, the same for every record of an attempt. */
export interface AttemptIdentity {
  readonly intake: Intake;
  readonly decision: Decision;
  readonly candidate: Candidate;
  readonly attemptId: string;
  /** From 1. */
  readonly number: number;
  readonly hedge: boolean;
  /** Set where it continues an answer another backend broke off. */
  readonly resume: unknown;
  /** Given up for a request of a better class. */
  readonly preempted: boolean;
  /** Wall clock, ms since the epoch. */
  readonly startedAtMs: number;
  /** What its intent set aside, nano-USD; 0 before. */
  readonly reservedNanoUsd: bigint;
}

/** What an attempt came to. */
export interface Settlement {
  /** False when it was voided: nothing was dispatched. */
  readonly posted: boolean;
  readonly usage: Usage;
  readonly costNanoUsd: bigint;
  readonly estimated: boolean;
  readonly unpriced: boolean;
  readonly purpose: Purpose;
}

/** What the ingress measured of an ended attempt. */
export interface Measured {
  readonly durationMs: number;
  /** 0 = no content came. */
  readonly ttftMs: number;
  readonly gpuSeconds: number;
  /** Only of answers in experiments. */
  readonly review: AnswerReview | undefined;
}

function usageOfTokens(inputTokens: number, outputTokens: number): Usage {
  return {
    $typeName: "signalbox.adapter.v1.Usage",
    inputTokens,
    cacheReadTokens: 0,
    cacheWriteTokens: 0,
    cacheWrite1hTokens: 0,
    outputTokens,
    reasoningTokens: 0,
    audioInputTokens: 0,
    audioOutputTokens: 0,
    imageInputTokens: 0,
    webSearches: 0,
    serviceTier: "",
    anomaly: false,
  };
}

const NO_USAGE = usageOfTokens(0, 0);

/** From this HTTP status on a provider refused: it did no work. */
const HTTP_REFUSAL = 400;

/** Whether bytes of the request left for the provider: then money may be owed. */
export function wasDispatched(end: AttemptEnd): boolean {
  return end.dispatched || end.outcome === Outcome.OK || end.contentSeen || (end.error?.httpStatus ?? 0) > 0;
}

/** Error code of an attempt whose adapter died (libs/rpc): what the provider did is unknown. */
const ADAPTER_LOST = "adapter_lost";

/** Output tokens such an attempt is booked with: an answer of usual length, which the provider may well have given. */
const LOST_OUTPUT_TOKENS = 200;

/**
 * Tokens to book for an ended attempt: what the provider stated; else, wherever it must have worked (an answer, content, a
 * beginning, a call cut from our side), the adapter's count of the output and our estimate of the prompt. A refusal or a
 * silence costs nothing. `guessed` is the output of an answer that would have come whole. Nothing counted goes beyond `mostOutput`, the tokens the attempt was allowed and money was set aside
 * for: none for embeddings, however many bytes their vectors are.
 */
export function bookedUsage(end: AttemptEnd, inputTokens: number, mostOutput: number, guessed = 0): { usage: Usage; estimated: boolean } {
  const stated = end.usage;
  if (stated !== undefined && end.usageKnown) return { usage: stated, estimated: stated.anomaly };
  const isAnswering = end.headersMs > 0 && (end.error?.httpStatus ?? 0) < HTTP_REFUSAL;
  const isLost = end.error?.code === ADAPTER_LOST;
  const worked = end.contentSeen || isAnswering || isLost || end.outcome !== Outcome.FAILED;
  if (!worked) return { usage: NO_USAGE, estimated: false };
  const seen = Math.max(seenTokens(end.contentEvents, end.contentBytes), guessed);
  const counted = Math.min(isLost ? Math.max(seen, LOST_OUTPUT_TOKENS) : seen, mostOutput);
  if (stated === undefined) return { usage: usageOfTokens(inputTokens, counted), estimated: true };
  const outputTokens = Math.min(stated.outputTokens || counted, mostOutput);
  const prompt = stated.inputTokens + stated.cacheReadTokens + stated.cacheWriteTokens + stated.cacheWrite1hTokens;
  return {
    usage: { ...stated, inputTokens: prompt > 0 ? stated.inputTokens : inputTokens, outputTokens },
    estimated: true,
  };
}

/** What an attempt's money was spent for. */
export function purposeOf(end: AttemptEnd, isResumed: boolean): Purpose {
  switch (end.outcome) {
    case Outcome.OK:
      return isResumed ? "resumed" : "billed";
    case Outcome.HEDGE_LOST:
      return "waste_hedge";
    case Outcome.CANCELED:
    case Outcome.DEADLINE:
      return "waste_aborted";
    case Outcome.FAILED:
    case Outcome.VOID:
    case Outcome.UNSPECIFIED:
      return end.contentSeen ? "waste_aborted" : "waste_retry";
    default:
      return "waste_retry";
  }
}

/** Keeps the books of attempts: intent before dispatch, settlement after (decision 24). */
export class Money {
  readonly #config: ConfigSource;
  readonly #prices: Prices;
  readonly #outbox: OutboxPort;

  constructor(config: ConfigSource, prices: Prices, outbox: OutboxPort) {
    this.#config = config;
    this.#prices = prices;
    this.#outbox = outbox;
  }

  /** Writes the intent: this attempt may cost up to the returned amount, nano-USD. */
  intend(identity: AttemptIdentity): bigint {
    const { intake, candidate } = identity;
    const output = this.#mostOutput(identity);
    const bound = upperBound(this.#prices.index, candidate.backend, intake.decide.inputTokens, output, identity.startedAtMs);
    const reserved = bound ?? 0n;
    // What the policy engine expects, so that an attempt whose end nobody sees is booked close to what it cost.
    const expected = candidate.costNanoUsd < reserved ? candidate.costNanoUsd : reserved;
    const record = recordOf(identity, RecordKind.INTENT, usageOfTokens(intake.decide.inputTokens, 0));
    record.reservedNanoUsd = reserved;
    record.costNanoUsd = expected;
    record.priceVersion = this.#prices.index.version;
    if (bound === undefined) {
      // An estimate made of this intent says that it is not free.
      record.unpriced = true;
      record.priceGrade = "unknown";
    }
    this.#outbox.append(record);
    return reserved;
  }

  /** Output tokens the attempt may come to, over all the answers asked for. */
  #mostOutput({ intake, candidate }: AttemptIdentity): number {
    if (intake.decide.operation === Operation.EMBEDDINGS) return 0;
    const each =
      intake.decide.maxOutputTokens ||
      candidate.maxOutputTokens ||
      this.#config.current.backends.get(candidate.backend)?.maxOutputTokens ||
      OUTPUT_RESERVE_TOKENS;
    return each * intake.choices;
  }

  /** Settles an ended attempt: POST with its cost, or VOID when nothing left for the provider. */
  settle(identity: AttemptIdentity, end: AttemptEnd, measured: Measured): Settlement {
    const { durationMs, ttftMs, gpuSeconds, review } = measured;
    const purpose = identity.preempted ? "waste_preempted" : purposeOf(end, identity.resume !== undefined);
    if (!wasDispatched(end)) {
      this.void(identity, end.error?.reason ?? "");
      return { posted: false, usage: NO_USAGE, costNanoUsd: 0n, estimated: false, unpriced: false, purpose };
    }
    const guessed = unseenOutput(identity, end, durationMs);
    const { usage, estimated } = bookedUsage(end, identity.intake.decide.inputTokens, this.#mostOutput(identity), guessed);
    const backend = identity.candidate.backend;
    const free = usage === NO_USAGE;
    const cost = costOf(this.#prices.index, backend, usage, identity.startedAtMs, gpuSeconds);
    const costNanoUsd = free ? 0n : cost.nanoUsd;
    const settlement: Settlement = {
      posted: true,
      usage,
      costNanoUsd,
      estimated: estimated || cost.estimated,
      unpriced: cost.unpriced,
      purpose,
    };
    const record = recordOf(identity, RecordKind.POST, usage);
    record.priceVersion = cost.priceVersion;
    record.durationMs = end.durationMs || durationMs;
    record.ttftMs = end.ttftMs || ttftMs;
    record.outcome = end.outcome;
    record.reason = end.error?.reason ?? "";
    record.estimated = settlement.estimated;
    record.costNanoUsd = costNanoUsd;
    record.responseId = end.responseId;
    record.unpriced = cost.unpriced;
    record.priceGrade = cost.grade;
    record.purpose = purpose;
    record.gpuSeconds = free ? 0 : cost.gpuSeconds;
    if (end.upstreamModel !== "") record.upstreamModel = end.upstreamModel;
    if (review !== undefined) record.review = review;
    this.#outbox.append(record);
    return settlement;
  }

  /** The attempt was never dispatched. */
  void(identity: AttemptIdentity, reason: string): void {
    const record = recordOf(identity, RecordKind.VOID, undefined);
    record.outcome = Outcome.VOID;
    record.reason = reason;
    this.#outbox.append(record);
  }
}

/** What a whole answer had come to when we cut it off, by the speed its backend was predicted to have; 0 for everything else. */
function unseenOutput({ intake, candidate }: AttemptIdentity, end: AttemptEnd, durationMs: number): number {
  const isCut = end.outcome === Outcome.CANCELED || end.outcome === Outcome.DEADLINE || end.outcome === Outcome.HEDGE_LOST;
  if (!isCut || intake.stream || end.contentSeen) return 0;
  return tokensIn(end.durationMs || durationMs, candidate.predictedTtftMs, candidate.predictedTpotMs);
}

/** What every record of an attempt says; the caller adds the rest. One object, not two: it is made twice a request. */
function recordOf(identity: AttemptIdentity, kind: RecordKind, usage: Usage | undefined): AttemptRecord {
  const { intake, decision, candidate } = identity;
  const { decide, internal } = intake;
  const { tenant, team, keyId } = payerOf(intake);
  const record: AttemptRecord = {
    $typeName: "signalbox.ledger.v1.AttemptRecord",
    kind,
    attemptId: identity.attemptId,
    requestId: intake.requestId,
    decisionId: decide.decisionId,
    attempt: identity.number,
    tenant,
    team,
    keyId,
    // Sums by a tag are what its owner asked for.
    tags: internal === undefined ? decide.tags : {},
    model: decision.model || decide.model,
    backend: candidate.backend,
    provider: candidate.provider,
    upstreamModel: candidate.upstreamModel,
    priceVersion: decision.priceVersion,
    reservedNanoUsd: identity.reservedNanoUsd,
    startedAtUs: BigInt(Math.round(identity.startedAtMs * 1000)),
    durationMs: 0,
    ttftMs: 0,
    outcome: Outcome.UNSPECIFIED,
    reason: "",
    estimated: false,
    costNanoUsd: 0n,
    experiment: internal?.experiment ?? decision.experiment,
    arm: internal?.arm ?? decision.arm,
    experimentRevision: internal?.revision ?? decision.experimentRevision,
    responseId: "",
    requestClass: decision.requestClass,
    unpriced: false,
    priceGrade: "",
    purpose: "",
    gpuSeconds: 0,
    operation: decide.operation,
    stream: intake.stream,
    role: decide.role,
  };
  if (usage !== undefined) record.usage = usage;
  return record;
}
