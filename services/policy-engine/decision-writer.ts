import type { Candidate, DecideRequest, Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import * as wire from "#libs/wire/index.ts";
import { TERMS } from "./answer.ts";
import { fillTerms, formOf } from "./candidate-form.ts";
import type { Evidence } from "./engine.ts";

/** Numbers, tags and lengths of a record together stay below this; candidates and strings come on top. */
const RECORD_BYTES = 1_024;

/** The same of one candidate, its terms included. */
const CANDIDATE_BYTES = 1_024;

/** Where a record is put together; grows with the largest. */
let scratch = Buffer.alloc(0);

/**
 * The DecisionRecord of a decision in protobuf's wire format: every candidate with its terms, the excluded ones with their reasons.
 * One is written for each decision, so none is built as an object first; a test holds it against the message's own codec.
 * The bytes are good until the next call.
 */
export function writeEvidence(evidence: Evidence): Uint8Array {
  const { request, decision, terms, excluded, others } = evidence;
  begin(bytesMax(evidence));
  const asked = wire.openMessage(1);
  writeRequest(request);
  wire.closeMessage(asked);
  const made = wire.openMessage(2, 2);
  writeDecision(decision, terms, excluded);
  wire.closeMessage(made, 2);
  wire.double(3, evidence.decidedAtMs);
  wire.int64(5, evidence.made.control?.revision ?? 0n);
  if (others !== undefined) {
    for (let place = 0; place < others.candidates.length; place++) writeCandidate(6, others.candidates[place]!, others.terms, place);
    for (const candidate of others.excluded) writeCandidate(6, candidate, undefined, 0);
  }
  return scratch.subarray(0, wire.endMessage());
}

/** A DecisionRecord that holds a response id alone, for a decision written before. The bytes are good until the next call. */
export function writeLink({ decisionId, requestId }: DecideRequest, responseId: string): Uint8Array {
  begin(RECORD_BYTES + (decisionId.length + requestId.length + responseId.length) * wire.UTF8_PER_UNIT);
  const asked = wire.openMessage(1);
  wire.text(1, decisionId);
  wire.text(2, requestId);
  wire.closeMessage(asked);
  wire.element(4, responseId);
  return scratch.subarray(0, wire.endMessage());
}

function begin(most: number): void {
  if (scratch.length < most) scratch = Buffer.allocUnsafeSlow(2 * most);
  wire.beginMessage(scratch, 0);
}

function bytesMax({ request, decision, excluded, others }: Evidence): number {
  const { result } = decision;
  let units = request.decisionId.length + request.requestId.length + request.model.length + request.tenant.length + request.team.length;
  units += request.keyId.length + request.unit.length + request.forcedArm.length + request.templateHash.length;
  units += request.conversation.length + request.role.length;
  for (const name of request.exclude) units += name.length + wire.FIELD_BYTES;
  for (const key in request.tags) units += key.length + request.tags[key]!.length + wire.FIELD_BYTES;
  units += decision.decisionId.length + decision.configVersion.length + decision.priceVersion.length + decision.engine.length;
  units += decision.model.length + decision.experiment.length + decision.arm.length;
  units += decision.shadowExperiment.length + decision.shadowArm.length;
  if (result.case === "deny") {
    units += result.value.reason.length + result.value.detail.length + result.value.param.length + result.value.code.length;
  }
  let most = RECORD_BYTES + units * wire.UTF8_PER_UNIT + request.prefixHashes.length + decision.requestChange.length;
  if (result.case === "allow") most += candidatesMax(result.value.candidates);
  most += candidatesMax(excluded) + candidatesMax(decision.shadowCandidates);
  return others === undefined ? most : most + candidatesMax(others.candidates) + candidatesMax(others.excluded);
}

function candidatesMax(candidates: readonly Candidate[]): number {
  let most = 0;
  for (const candidate of candidates) {
    let units = candidate.backend.length + candidate.upstreamModel.length + candidate.provider.length + candidate.standing.length;
    if (candidate.excluded !== undefined) units += candidate.excluded.requirement.length + candidate.excluded.detail.length;
    most += CANDIDATE_BYTES + units * wire.UTF8_PER_UNIT;
  }
  return most;
}

function writeRequest(request: DecideRequest): void {
  wire.text(1, request.decisionId);
  wire.text(2, request.requestId);
  wire.text(3, request.model);
  wire.text(4, request.tenant);
  wire.text(5, request.team);
  wire.text(6, request.keyId);
  wire.textMap(7, request.tags);
  wire.uint(8, request.requestClass);
  wire.uint(9, request.operation);
  wire.uint(10, request.needs);
  wire.uint(11, request.inputTokens);
  wire.uint(12, request.maxOutputTokens);
  wire.bool(13, request.stream);
  wire.double(14, request.ttftTargetMs);
  wire.double(15, request.deadlineMs);
  wire.int64(16, request.maxCostNanoUsd);
  wire.text(17, request.unit);
  wire.bytes(18, request.prefixHashes);
  for (const name of request.exclude) wire.element(19, name);
  wire.text(20, request.forcedArm);
  wire.bool(21, request.explain);
  wire.text(22, request.templateHash);
  wire.text(23, request.conversation);
  wire.uint(24, request.inputBytes);
  wire.uint(25, request.contentClass);
  wire.text(26, request.role);
  wire.uint(27, request.choices);
}

function writeDecision(decision: Decision, terms: readonly number[], excluded: readonly Candidate[]): void {
  const { result } = decision;
  wire.text(1, decision.decisionId);
  wire.text(2, decision.configVersion);
  wire.text(3, decision.priceVersion);
  wire.text(4, decision.engine);
  wire.text(5, decision.model);
  wire.uint(6, decision.requestClass);
  if (result.case === "allow") {
    const allow = wire.openMessage(7, 2);
    for (let place = 0; place < result.value.candidates.length; place++) writeCandidate(1, result.value.candidates[place]!, terms, place);
    wire.closeMessage(allow, 2);
  } else if (result.case === "deny") {
    const deny = wire.openMessage(8);
    wire.text(1, result.value.reason);
    wire.text(2, result.value.detail);
    wire.uint(3, result.value.retryAfterMs);
    wire.text(4, result.value.param);
    wire.text(5, result.value.code);
    wire.closeMessage(deny);
  }
  wire.bool(9, decision.stale);
  wire.double(10, decision.queueMs);
  wire.double(11, decision.decideMs);
  for (const candidate of excluded) writeCandidate(12, candidate, undefined, 0);
  wire.text(13, decision.experiment);
  wire.text(14, decision.arm);
  wire.int64(15, decision.experimentRevision);
  wire.uint(16, decision.midStream);
  wire.uint(17, decision.maxAttempts);
  wire.double(18, decision.deadlineMs);
  wire.bytes(19, decision.requestChange);
  wire.uint(20, decision.seed);
  wire.text(21, decision.shadowExperiment);
  for (const candidate of decision.shadowCandidates) writeCandidate(22, candidate, undefined, 0);
  wire.double(23, decision.ttftTargetMs);
  wire.double(24, decision.tpotTargetMs);
  wire.text(25, decision.shadowArm);
  wire.double(26, decision.followedMs);
}

/** With `TERMS` where `terms` holds them, at its place. */
function writeCandidate(field: number, candidate: Candidate, terms: readonly number[] | undefined, place: number): void {
  const lengthBytes = terms === undefined ? 1 : 2;
  const start = wire.openMessage(field, lengthBytes);
  const form = formOf(candidate);
  if (terms === undefined) wire.raw(form.withoutTerms);
  else {
    fillTerms(form, terms, place * TERMS.length);
    wire.raw(form.bytes);
  }
  wire.int64(4, candidate.costNanoUsd);
  wire.int64(5, candidate.marginalNanoUsd);
  wire.uint(6, candidate.queue);
  wire.uint(7, candidate.inFlight);
  if (candidate.excluded !== undefined) {
    const excluded = wire.openMessage(9);
    wire.text(1, candidate.excluded.requirement);
    wire.text(2, candidate.excluded.detail);
    wire.closeMessage(excluded);
  }
  wire.int32(13, candidate.enginePriority);
  wire.bool(14, candidate.enginePrioritySet);
  wire.uint(17, candidate.maxOutputTokens);
  wire.text(18, candidate.standing);
  wire.closeMessage(start, lengthBytes);
}
