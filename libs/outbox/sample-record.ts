import { create } from "@bufbuild/protobuf";
import { AttemptRecordSchema, RecordKind, type AttemptRecord } from "#gen/signalbox/ledger/v1/ledger_pb.ts";
import { Outcome, RequestClass } from "#gen/signalbox/policy/v1/policy_pb.ts";

/** A record as a request makes one, for tests and measurements. */
export function sampleRecord(kind: RecordKind, attemptId: string, costNanoUsd = 1_234_567n): AttemptRecord {
  return create(AttemptRecordSchema, {
    kind,
    attemptId,
    requestId: "req_0192a5d3-7c1e-7abc-8def-0123456789ab",
    decisionId: "0192a5d3-7c1e-7abc-8def-0123456789ab",
    attempt: 1,
    tenant: "acme",
    team: "search",
    keyId: "key_a1b2c3d4",
    tags: { user: "u-1029", route: "summarise" },
    model: "chat",
    backend: "gpu-a",
    provider: "vllm",
    upstreamModel: "meta-llama/Llama-3.3-70B-Instruct",
    priceVersion: "9f86d081884c7d65",
    reservedNanoUsd: 5_000_000n,
    startedAtUs: 1_793_534_400_123_456n,
    durationMs: 812.4,
    ttftMs: 203.7,
    outcome: Outcome.OK,
    usage: { inputTokens: 1155, cacheReadTokens: 512, outputTokens: 211 },
    costNanoUsd,
    responseId: "chatcmpl-0192a5d37c1e",
    requestClass: RequestClass.INTERACTIVE,
    priceGrade: "override",
    purpose: "billed",
    stream: true,
  });
}
