import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import type { ReadinessCheck } from "#libs/lifecycle/index.ts";
import type { AdapterPeer, ControlPeer, ExplainPeer, HealthPeer, LedgerPeer } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";

/** Result of a reload. */
export type ReloadResult = { readonly configVersion: string } | { readonly diagnostics: readonly string[] };

/** The simulator's switchboard, where one runs inside. Throws a SignalboxError for unknown names. */
export interface FaultPort {
  fault(backend: string, kind: string, options: Readonly<Record<string, unknown>>): void;
  clear(): void;
}

/** What the console needs. A peer that is absent makes its routes answer 503. */
export interface ConsoleDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly uuid: () => string;
  /** Text of <data-dir>/admin.token. */
  readonly adminToken: string;
  /** What this process runs, for /version. */
  readonly version: Readonly<Record<string, unknown>>;
  /** The configuration without secrets. */
  readonly redactedConfig: () => unknown;
  /** Metrics in the Prometheus text format. */
  readonly metricsText: () => Promise<string>;
  /** Checks of all modules of this process. */
  readonly checks: () => readonly ReadinessCheck[];
  readonly reload: () => Promise<ReloadResult>;
  readonly ledger?: LedgerPeer | undefined;
  readonly control?: ControlPeer | undefined;
  readonly explain?: ExplainPeer | undefined;
  readonly health?: HealthPeer | undefined;
  readonly adapters?: AdapterPeer | undefined;
  readonly simulator?: FaultPort | undefined;
}
