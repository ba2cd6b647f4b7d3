import type { ServiceModule } from "#libs/lifecycle/index.ts";
import {
  claimAbandoned,
  claimSlot,
  createShipper,
  openOutbox,
  watchOutbox,
  type Outbox,
  type OutboxFiles,
  type Shipper,
} from "#libs/outbox/index.ts";
import type { ProcessContext } from "./context.ts";

/** How often an outbox left by a process that did not come back is looked at, ms. */
const ABANDONED_LOOK_MS = 1_000;

/** At the end, records on their way may take this long to be booked, ms; what is not stays on disk for the next start. */
const LAST_SHIPMENT_MS = 2_000;

/** The outbox of this process as a part with a life, and the outbox itself. */
export interface OutboxPart {
  readonly outbox: Outbox;
  readonly module: ServiceModule;
}

/** Opens this process's outbox and ships it; outboxes in the same folder that nobody uses any more are shipped too, then removed. */
export function createOutbox(context: ProcessContext): OutboxPart {
  const settings = context.config.current.ledger.outbox;
  const open = (files: OutboxFiles): Outbox =>
    openOutbox({
      id: context.uuid(),
      files,
      clock: context.clock,
      durability: settings.durability,
      maxBytes: settings.maxBytes,
      onFull: settings.onFull,
    });
  const outbox = open(claimSlot(settings.dir).files);
  watchOutbox(outbox, context.metrics);
  report(context, outbox);
  let shipper: Shipper | undefined;
  const abandoned = new Map<Outbox, Shipper>();
  const ship = (box: Outbox): Shipper => createShipper({ outbox: box, bus: context.bus, clock: context.clock, logger: context.logger });
  const finished = async (): Promise<void> => {
    for (const [box, boxShipper] of abandoned) {
      if (boxShipper.pending) continue;
      abandoned.delete(box);
      boxShipper.stop();
      await box.close();
    }
  };
  let timer: { cancel(): void } | undefined;
  return {
    outbox,
    module: {
      name: "outbox",
      start: () => {
        shipper = ship(outbox);
        for (const { files } of claimAbandoned(settings.dir)) {
          const box = open(files);
          report(context, box);
          abandoned.set(box, ship(box));
        }
        timer = context.clock.every(ABANDONED_LOOK_MS, () => {
          finished().catch((error: unknown) => context.logger.error({ error }, "an abandoned outbox cannot be closed"));
        });
        return Promise.resolve();
      },
      drain: async () => {
        const endMs = context.clock.monotonicMs() + LAST_SHIPMENT_MS;
        while (shipper?.pending && context.clock.monotonicMs() < endMs) await context.clock.sleep(10);
      },
      stop: async () => {
        timer?.cancel();
        shipper?.stop();
        for (const [box, boxShipper] of abandoned) {
          boxShipper.stop();
          await box.close();
        }
        await outbox.close();
      },
      checks: [
        {
          name: "outbox",
          status: () => (outbox.accepting ? { state: "ok" } : { state: "failed", detail: "full, or the disk refuses writes" }),
        },
      ],
    },
  };
}

/** What opening found is said once: lost or damaged records are never silent. */
function report({ logger }: ProcessContext, { recovery, id }: Outbox): void {
  const fields = { outbox: id, ...recovery };
  if (recovery.lost > 0) logger.error(fields, "the outbox has lost records");
  else logger.debug(fields, "outbox opened");
}
