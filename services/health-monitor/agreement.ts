import type { LoadPublished } from "#gen/signalbox/events/v1/events_pb.ts";

/** An engine unheard of for this long has no vote, ms. */
export const VOTE_TTL_MS = 10_000;
/** Engines remembered. */
const ENGINES_MAX = 256;
/** Engines that must agree, where there are that many. */
const AGREEING = 2;

interface Voter {
  epoch: number;
  sequence: bigint;
  heardAtMs: number;
  /** Backends whose breaker it has open. */
  open: Set<string>;
}

/** How the engines' breakers stand on one backend. */
export interface Vote {
  readonly open: number;
  readonly engines: number;
}

/** The breakers of all engines, from their load messages. */
export class Ballot {
  readonly #voters = new Map<string, Voter>();

  /** Takes in one engine's message, whose backends are those with load or news; false = it is an older one, or of an engine too many. */
  receive(message: LoadPublished, nowMs: number): boolean {
    let voter = this.#voters.get(message.engine);
    if (voter && (message.epoch < voter.epoch || (message.epoch === voter.epoch && message.sequence <= voter.sequence))) return false;
    if (!voter || message.epoch > voter.epoch) {
      if (!voter && this.#voters.size >= ENGINES_MAX) return false;
      voter = { epoch: message.epoch, sequence: message.sequence, heardAtMs: nowMs, open: new Set() };
      this.#voters.set(message.engine, voter);
    }
    voter.sequence = message.sequence;
    voter.heardAtMs = nowMs;
    // absolute: what it does not name, it has no open breaker on
    voter.open = new Set(message.backends.filter((load) => load.breakerOpen).map((load) => load.backend));
    return true;
  }

  on(backend: string, nowMs: number): Vote {
    let open = 0;
    let engines = 0;
    for (const [name, voter] of this.#voters) {
      if (nowMs - voter.heardAtMs > VOTE_TTL_MS) {
        this.#voters.delete(name);
        continue;
      }
      engines++;
      if (voter.open.has(backend)) open++;
    }
    return { open, engines };
  }
}

/** Whether an open breaker is agreed on: by several engines, by one and the prober, or by the only engine there is. */
export function isAgreed({ open, engines }: Vote, live: boolean | undefined): boolean {
  if (open === 0) return false;
  return open >= AGREEING || live === false || engines === 1;
}

/** A pool as the bounds see it. */
export interface PoolMember {
  readonly backend: string;
  /** Not to be used, for whatever reason. */
  readonly out: boolean;
}

/**
 * Whether statistics may eject one more of a pool: at most `maxEjected` (0..1) of it may be out, and never the last one. Hard
 * failures are not asked: a dead backend is dead however many are.
 */
export function mayEject(pool: readonly PoolMember[], backend: string, maxEjected: number): boolean {
  const out = pool.filter((member) => member.out && member.backend !== backend).length;
  return out + 1 <= maxEjected * pool.length && out + 1 < pool.length;
}

/** Whether so much of a pool is out that statistical ejections are ignored. */
export function isPanic(pool: readonly PoolMember[], maxEjected: number): boolean {
  return pool.length > 1 && pool.filter((member) => member.out).length > maxEjected * pool.length;
}
