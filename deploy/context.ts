import type { Clock, LoopLag, Random } from "#libs/clock/index.ts";
import type { EventBus } from "#libs/bus/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { CellMetrics, ProcessLogger } from "#libs/telemetry/index.ts";
import type { ProcessTracing } from "./telemetry.ts";

/** What every module of one process shares. */
export interface ProcessContext {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: ProcessLogger;
  readonly metrics: CellMetrics;
  readonly tracing: ProcessTracing;
  readonly bus: EventBus;
  /** Folder for the ledger, the outbox and what is kept over restarts. */
  readonly dataDir: string;
  /** Names this process on the bus and in the mesh; new at every start. */
  readonly instance: string;
  readonly uuid: () => string;
  /** Whether other processes are on the bus. */
  readonly isMesh: boolean;
  /** What to take for the lateness of the event loop; undefined = it is measured. */
  readonly loopLag: LoopLag | undefined;
}
