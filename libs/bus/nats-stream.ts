import { AckPolicy, DeliverPolicy, DiscardPolicy, RetentionPolicy, StorageType, jetstream, jetstreamManager } from "@nats-io/jetstream";
import type { Consumer, JetStreamManager } from "@nats-io/jetstream";
import { nanos, type NatsConnection } from "@nats-io/transport-node";
import { BATCH_MAX, DEDUPE_WINDOW_MS, STREAM_MAX_BYTES } from "./limits.ts";
import { SUBJECTS } from "./subjects.ts";

/** The one durable stream. */
export const STREAM = "SIGNALBOX";

/** Subjects the stream keeps; every other one is live only. */
const DURABLE_SUBJECTS: readonly string[] = [SUBJECTS.entryRecorded];

/** Age at which a message leaves the stream whatever happened, ms: three days cover a weekend without a ledger. */
const MAX_AGE_MS = 3 * 24 * 3_600_000;

/**
 * Time the server waits for an acknowledgement before it delivers again, ms: about how long a killed consumer's successor waits
 * for what that one had in hand. Renewed three times as often while the handler works.
 */
export const ACK_WAIT_MS = 6_000;

/** Creates the stream unless it is there. Rejects when JetStream is off or refuses. */
export async function ensureStream(connection: NatsConnection): Promise<JetStreamManager> {
  const manager = await jetstreamManager(connection, { checkAPI: false });
  try {
    await manager.streams.info(STREAM);
  } catch {
    await manager.streams.add({
      name: STREAM,
      subjects: [...DURABLE_SUBJECTS],
      storage: StorageType.File,
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      max_bytes: STREAM_MAX_BYTES,
      max_age: nanos(MAX_AGE_MS),
      duplicate_window: nanos(DEDUPE_WINDOW_MS),
    });
  }
  return manager;
}

/** Creates the durable consumer (one filter subject, explicit acknowledgement) unless it is there. */
export async function ensureConsumer(connection: NatsConnection, subject: string, durable: string): Promise<Consumer> {
  const manager = await ensureStream(connection);
  try {
    const { config } = await manager.consumers.info(STREAM, durable);
    if (config.ack_wait !== nanos(ACK_WAIT_MS)) await manager.consumers.update(STREAM, durable, { ack_wait: nanos(ACK_WAIT_MS) });
  } catch {
    await manager.consumers.add(STREAM, {
      durable_name: durable,
      filter_subject: subject,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ack_wait: nanos(ACK_WAIT_MS),
      max_ack_pending: 4 * BATCH_MAX,
    });
  }
  return jetstream(connection, { checkAPI: false }).consumers.get(STREAM, durable);
}
