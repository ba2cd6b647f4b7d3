import { formatAmount } from "#libs/money/index.ts";

/** The end of a stream that went well. */
export const DONE_EVENT: Uint8Array = Buffer.from("data: [DONE]\n\n");

/** A comment that keeps proxies and clients from giving up; every SSE parser ignores it. */
export const KEEP_ALIVE_EVENT: Uint8Array = Buffer.from(": keep-alive\n\n");

/** A comment that says: another backend goes on with the answer from here. */
export const RESUMED_EVENT: Uint8Array = Buffer.from(": resumed\n\n");

const CLOSE_BRACE = 0x7d;
const OPEN_BRACE = 0x7b;

/** Puts `"signalbox":{"cost_usd":"..."}` into the object of a usage event (`data: {...}\n\n`); bytes without an object stay as they are. */
export function withCost(event: Uint8Array, costNanoUsd: bigint): Uint8Array {
  const close = event.lastIndexOf(CLOSE_BRACE);
  if (close < 0) return event;
  let before = close - 1;
  while (before >= 0 && event[before]! <= 0x20) before--;
  const comma = before >= 0 && event[before] !== OPEN_BRACE ? "," : "";
  const field = Buffer.from(`${comma}"signalbox":{"cost_usd":"${formatAmount(costNanoUsd)}"}`);
  return Buffer.concat([event.subarray(0, close), field, event.subarray(close)]);
}
