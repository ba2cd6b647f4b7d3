/** One thing `/readyz?verbose` names. */
export interface ReadinessCheck {
  /** Short name, e.g. `policy-session`. */
  readonly name: string;
  /** ok: fine; degraded: works on a last-known-good; failed: cannot serve. Only `failed` makes the process unready. */
  status(): { readonly state: "ok" | "degraded" | "failed"; readonly detail?: string };
}

/** A service's life, the same in one process or many. */
export interface ServiceModule {
  /** Word of the product: ingress, policy-engine, health-monitor, cost-ledger, provider-adapters, console. */
  readonly name: string;
  /** Resolves when the module can serve, if need be degraded; rejects only when it never can (busy port, bad data folder). */
  start(): Promise<void>;
  /** Takes nothing new and resolves when the work in hand is done, or after `graceMs` at the latest (then it ends the rest with explicit errors). */
  drain(graceMs: number): Promise<void>;
  /** Lets go of sockets, files and timers. Called after drain, in reverse order of start. */
  stop(): Promise<void>;
  /** What `/readyz` asks. */
  readonly checks: readonly ReadinessCheck[];
}
