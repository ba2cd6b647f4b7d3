/** Messages a durable consumer gets at once: enough to fill a ledger transaction, few enough to be handled within the acknowledgement time. */
export const BATCH_MAX = 64;

/** Time in which a repeated message id is dropped, ms. The store's own uniqueness is what counts; this only saves work. */
export const DEDUPE_WINDOW_MS = 120_000;

/** Bytes the durable stream keeps; the oldest go first. Outboxes send again what was never acknowledged. */
export const STREAM_MAX_BYTES = 512 * 1024 * 1024;

/** Bytes and messages the in-memory stream keeps, and message ids of one generation. */
export const MEMORY_STREAM_MAX_BYTES = 64 * 1024 * 1024;
export const MEMORY_STREAM_MAX_MESSAGES = 100_000;

/** Live messages waiting for their handlers in the in-memory bus; beyond, they are dropped and counted. */
export const PENDING_MAX_MESSAGES = 65_536;

/** Keys of one in-memory bucket; beyond, the oldest goes. */
export const KEYS_MAX = 65_536;

/** How long a durable publish waits for the stream, ms. */
export const PUBLISH_TIMEOUT_MS = 5_000;

/** First and longest wait before a rejected batch is delivered again, ms. */
const REDELIVERY_FIRST_MS = 1_000;
const REDELIVERY_LONGEST_MS = 30_000;

/** Wait before delivery number `deliveries + 1`, ms. */
export function redeliveryDelayMs(deliveries: number): number {
  return Math.min(REDELIVERY_LONGEST_MS, REDELIVERY_FIRST_MS * 2 ** Math.min(10, Math.max(0, deliveries - 1)));
}
