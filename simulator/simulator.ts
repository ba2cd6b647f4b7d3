import type { Clock, Random } from "#libs/clock/index.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { Backend } from "./backend.ts";
import type { FaultOptions } from "./faults/kinds.ts";
import { parseFaultOrder } from "./faults/parse.ts";
import type { Strike } from "./faults/plan.ts";
import type { CallLine, InvoiceLine } from "./invoice.ts";
import type { SimBackendProfile } from "./profile.ts";

/** What a simulator is made of. */
export interface SimulatorOptions {
  readonly clock: Clock;
  /** Chance of times, probabilities and ids: seeded for tests that repeat. */
  readonly random: Random;
  readonly logger: Logger;
  readonly profiles: readonly SimBackendProfile[];
  /** Multiplies every time of the engines; 0.1 = ten times as fast. Default 1. */
  readonly timeScale?: number;
}

/** Where a simulated backend listens. */
export interface SimAddress {
  /** Root address, without `/v1`. */
  readonly url: string;
  readonly port: number;
}

/** What a backend is doing now. */
export interface SimLoad {
  /** Sequences computed, requests waiting. */
  readonly running: number;
  readonly waiting: number;
  /** Share of the KV cache in use, 0..1. */
  readonly kvUsage: number;
  /** Inference calls received so far. */
  readonly calls: number;
}

/** Providers and engines to test against, with faults and an invoice. */
export interface Simulator {
  readonly profiles: readonly SimBackendProfile[];
  /** Starts every backend's listener on 127.0.0.1; rejects when a fixed port is taken. Addresses by backend name. */
  start(): Promise<ReadonlyMap<string, SimAddress>>;
  /** Ends every listener and connection. */
  stop(): Promise<void>;
  /**
   * Switches a fault on; `*` = every backend. A fault of the same kind is replaced. `kind` may be an alias (`429`, `hang`), options
   * may carry the names of the wire (`after_tokens`). Throws MODEL_UNKNOWN for an unknown backend, REQUEST_MALFORMED for a fault that makes no sense.
   */
  fault(backend: string, kind: string, options?: FaultOptions | Readonly<Record<string, unknown>>): void;
  /** Switches faults off: one backend's, or all. */
  clear(backend?: string): void;
  /** Faults at work, by backend. */
  faults(): ReadonlyMap<string, readonly Strike[]>;
  /** Every call the providers would bill, in the order they ended per backend. */
  invoice(): InvoiceLine[];
  /** Every inference call received, billed or not. */
  calls(): CallLine[];
  /** Empties invoice and calls. */
  forget(): void;
  load(backend: string): SimLoad;
}

/** A simulator of `profiles`; nothing listens before `start`. */
export function createSimulator(options: SimulatorOptions): Simulator {
  const { clock, random, logger, profiles } = options;
  const backends = new Map<string, Backend>();
  for (const profile of profiles) {
    if (backends.has(profile.name)) throw new SignalboxError("INTERNAL", `two simulated backends are called ${profile.name}`);
    backends.set(profile.name, new Backend(profile, { clock, random, timeScale: options.timeScale ?? 1 }));
  }
  const named = (name: string): Backend[] => {
    if (name === "*") return [...backends.values()];
    const backend = backends.get(name);
    if (!backend)
      throw new SignalboxError("MODEL_UNKNOWN", `no simulated backend is called ${name}; there are ${[...backends.keys()].join(", ")}`, {
        param: "backend",
      });
    return [backend];
  };
  return {
    profiles,
    async start() {
      const started = await Promise.allSettled([...backends.values()].map((backend) => backend.start()));
      const failed = started.find((result) => result.status === "rejected");
      if (failed) {
        await Promise.all([...backends.values()].map((backend) => backend.stop()));
        throw failed.reason;
      }
      const addresses = new Map<string, SimAddress>();
      for (const [name, backend] of backends) addresses.set(name, { url: backend.url, port: backend.port });
      return addresses;
    },
    async stop() {
      await Promise.all([...backends.values()].map((backend) => backend.stop()));
    },
    fault(name, kind, given = {}) {
      const order = parseFaultOrder({ ...given, backend: name, kind });
      if (typeof order === "string") throw new SignalboxError("REQUEST_MALFORMED", `${order}.`, { param: "kind" });
      for (const backend of named(name)) {
        backend.faults.add(order.kind, order.options);
        backend.faultsChanged();
        logger.info({ backend: backend.profile.name, kind: order.kind, ...order.options }, "simulated fault on");
      }
    },
    clear(name = "*") {
      for (const backend of named(name)) {
        backend.faults.clear();
        backend.faultsChanged();
      }
      logger.info({ backend: name }, "simulated faults off");
    },
    faults: () => new Map([...backends].map(([name, backend]) => [name, backend.faults.list()])),
    invoice: () => [...backends.values()].flatMap((backend) => backend.invoice.all()),
    calls: () => [...backends.values()].flatMap((backend) => backend.calls.all()),
    forget() {
      for (const backend of backends.values()) {
        backend.invoice.clear();
        backend.calls.clear();
      }
    },
    load(name) {
      const { engine, calls } = named(name)[0]!;
      return { running: engine.running, waiting: engine.waiting, kvUsage: engine.kvUsage, calls: calls.all().length + calls.dropped };
    },
  };
}
