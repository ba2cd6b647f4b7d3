import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { bool, closeMessage, openMessage, text, uint } from "./writer.ts";

/** A Usage inside another message. Its strings take `usage.serviceTier` UTF-16 units, the rest below 128 bytes. */
export function usage(field: number, tokens: Usage): void {
  const start = openMessage(field);
  uint(1, tokens.inputTokens);
  uint(2, tokens.cacheReadTokens);
  uint(3, tokens.cacheWriteTokens);
  uint(4, tokens.cacheWrite1hTokens);
  uint(5, tokens.outputTokens);
  uint(6, tokens.reasoningTokens);
  uint(7, tokens.audioInputTokens);
  uint(8, tokens.audioOutputTokens);
  uint(9, tokens.imageInputTokens);
  uint(10, tokens.webSearches);
  text(11, tokens.serviceTier);
  bool(12, tokens.anomaly);
  closeMessage(start);
}
