import { create } from "@bufbuild/protobuf";
import { PriceLineSchema, type PriceLine } from "#gen/signalbox/ledger/v1/ledger_pb.ts";

/** A line without any price: every field says "take the parent's". Start of every price line. */
export function blankLine(backend: string): PriceLine {
  return create(PriceLineSchema, {
    backend,
    inputPico: -1n,
    cacheReadPico: -1n,
    cacheWritePico: -1n,
    cacheWrite1hPico: -1n,
    outputPico: -1n,
    reasoningPico: -1n,
    audioInputPico: -1n,
    audioOutputPico: -1n,
    imageInputPico: -1n,
    perRequestNano: -1n,
    webSearchNano: -1n,
    perHourNano: -1n,
    grade: "override",
  });
}
