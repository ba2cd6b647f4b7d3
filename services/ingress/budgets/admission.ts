import { Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import { isCharged, type PriceIndex, upperBound } from "#libs/money/index.ts";
import type { Catalog } from "../catalog.ts";
import type { Intake } from "../intake.ts";
import { payerOf } from "../internal.ts";
import { OUTPUT_RESERVE_TOKENS } from "../limits.ts";
import { NO_FACTS } from "../reply-facts.ts";
import type { ReplyFacts } from "../reply.ts";
import { Allowance } from "./allowance.ts";
import type { BudgetHolder } from "./holder.ts";
import { Rate } from "./rate.ts";
import type { Slice, Waiter } from "./slice.ts";

/** Tenants whose rates are held at once: those of the configuration, plus those a reload took away. */
const TENANTS_MAX = 10_000;
/** A request that is refused for concurrency may try again after this, ms: nobody knows when another one ends. */
const CONCURRENCY_RETRY_MS = 1_000;
/** Tokens that frame messages and tools beyond their bytes, for the bound of a prompt. */
const FRAME_TOKENS = 64;

/** What {@link Admission} needs. */
export interface AdmissionDeps {
  readonly config: ConfigSource;
  readonly clock: Clock;
  readonly holder: BudgetHolder;
  readonly prices: { readonly index: PriceIndex; readonly loaded: boolean };
  readonly catalog: () => Catalog;
}

/** Called once, at once or when the money is there: with an error when the request may not go on. */
export type Admitted = (error: SignalboxError | undefined) => void;

interface TenantRates {
  requests: Rate | undefined;
  tokens: Rate | undefined;
  inFlight: number;
}

/**
 * The door: a tenant's rates and concurrency, then its budgets. Rates are divided by the ingresses alive; budgets are held
 * to the nano-dollar by reservation. A tenant without either costs one look-up.
 */
export class Admission {
  readonly #deps: AdmissionDeps;
  readonly #rates = new Map<string, TenantRates>();
  /** Allowances of requests in flight, by decision id. */
  readonly allowances = new Map<string, Allowance>();

  constructor(deps: AdmissionDeps) {
    this.#deps = deps;
  }

  /** Lets a request in. Returns what withdraws it while it waits; undefined when it does not wait. */
  admit(intake: Intake, done: Admitted): (() => void) | undefined {
    const { decisionId, inputTokens, maxOutputTokens } = intake.decide;
    const { tenant, team, keyId } = payerOf(intake);
    const { config, holder, clock } = this.#deps;
    const limits = config.current.tenants.get(tenant)?.limits;
    const isLimited = limits !== undefined && (limits.rpm ?? limits.tpm ?? limits.concurrency) !== undefined;
    const specs = holder.specsOf(tenant).filter((spec) => isCharged(spec, tenant, team, keyId));
    if (!isLimited && specs.length === 0) {
      done(undefined);
      return undefined;
    }
    const nowMs = clock.monotonicMs();
    const asked = inputTokens + maxOutputTokens;
    const isHard = specs.some(({ mode }) => mode === "hard");
    if (isHard && !this.#deps.prices.loaded) {
      done(new SignalboxError("NO_BACKEND", "Prices are not known yet, so that no budget can be kept.", { code: "ledger_unavailable" }));
      return undefined;
    }
    const refused = isLimited ? this.#enter(tenant, asked, nowMs) : undefined;
    if (refused !== undefined) {
      done(refused);
      return undefined;
    }
    const rates = isLimited ? this.#rates.get(tenant) : undefined;
    const leave = (tokens: number): void => {
      this.allowances.delete(decisionId);
      if (rates === undefined) return;
      rates.inFlight--;
      rates.tokens?.correct(asked - tokens);
    };
    const slices = specs.map((spec) => holder.slice(spec));
    const bound = isHard ? this.boundOf(intake) : 0n;
    return this.#reserve(slices, bound, leave, (error) => {
      if (error === undefined) this.allowances.set(decisionId, new Allowance(holder, slices, bound, leave));
      done(error);
    });
  }

  /** The request is over. */
  close(decisionId: string): void {
    this.allowances.get(decisionId)?.close();
  }

  /** The most one attempt can cost: every byte a token, the whole answer, the dearest candidate. */
  boundOf(intake: Intake): bigint {
    const { config, prices, clock, catalog } = this.#deps;
    const { backends } = config.current;
    const { decide, size } = intake;
    const entry = catalog().get(decide.model);
    const names =
      entry?.model?.candidates ??
      [...backends.values()].filter((each) => `${each.provider}/${each.model}` === decide.model).map((each) => each.name);
    const isEmbeddings = decide.operation === Operation.EMBEDDINGS;
    const input = Math.max(decide.inputTokens, size.bytes + size.mediaTokens) + FRAME_TOKENS;
    let most = 0n;
    for (const name of names) {
      const output = isEmbeddings ? 0 : decide.maxOutputTokens || backends.get(name)?.maxOutputTokens || OUTPUT_RESERVE_TOKENS;
      const bound = upperBound(prices.index, name, input, output * intake.choices, clock.now()) ?? 0n;
      if (bound > most) most = bound;
    }
    return most;
  }

  /** `x-ratelimit-*` of the caller's tenant, as this ingress sees it; empty without limits. */
  headers(tenant: string): readonly (readonly [string, string])[] {
    const rates = this.#rates.get(tenant);
    if (rates === undefined) return [];
    const limits = this.#deps.config.current.tenants.get(tenant)?.limits;
    const nowMs = this.#deps.clock.monotonicMs();
    const headers: (readonly [string, string])[] = [];
    const add = (what: string, rate: Rate | undefined, limit: number | undefined): void => {
      if (rate === undefined || limit === undefined) return;
      headers.push([`x-ratelimit-limit-${what}`, String(limit)], [`x-ratelimit-remaining-${what}`, String(rate.remaining(nowMs))]);
      headers.push([`x-ratelimit-reset-${what}`, `${rate.resetMs(nowMs)}ms`]);
    };
    add("requests", rates.requests, limits?.rpm);
    add("tokens", rates.tokens, limits?.tpm);
    return headers;
  }

  /** Reserves on one slice after the other, in the order of the configuration: two requests never wait for each other. */
  #reserve(slices: readonly Slice[], bound: bigint, leave: (tokens: number) => void, done: Admitted): (() => void) | undefined {
    const { holder } = this.#deps;
    let waiting: { slice: Slice; waiter: Waiter } | undefined;
    let got = 0;
    const giveUp = (): void => {
      for (const slice of slices.slice(0, got)) {
        slice.settle(bound, 0n);
        holder.freed(slice);
      }
      got = 0;
      leave(0);
    };
    const next = (error?: SignalboxError): void => {
      waiting = undefined;
      if (error !== undefined) {
        giveUp();
        return done(error);
      }
      const slice = slices[got];
      if (slice === undefined) return done(undefined);
      let isDone = false;
      const waiter = holder.reserve(slice, bound, (refusal) => {
        isDone = true;
        if (refusal === undefined) got++;
        next(refusal);
      });
      if (waiter !== undefined && !isDone) waiting = { slice, waiter };
    };
    next();
    if (waiting === undefined) return undefined;
    return () => {
      if (waiting === undefined) return;
      holder.withdraw(waiting.slice, waiting.waiter);
      waiting = undefined;
      giveUp();
    };
  }

  #enter(tenant: string, tokens: number, nowMs: number): SignalboxError | undefined {
    const { config, holder } = this.#deps;
    const limits = config.current.tenants.get(tenant)!.limits;
    const share = (limit: number): number => Math.max(1, limit / holder.holders);
    let rates = this.#rates.get(tenant);
    if (rates === undefined) {
      if (this.#rates.size >= TENANTS_MAX) for (const [name, { inFlight }] of this.#rates) if (inFlight === 0) this.#rates.delete(name);
      this.#rates.set(tenant, (rates = { requests: undefined, tokens: undefined, inFlight: 0 }));
    }
    rates.requests = rateOf(rates.requests, limits.rpm, share, nowMs);
    rates.tokens = rateOf(rates.tokens, limits.tpm, share, nowMs);
    if (limits.concurrency !== undefined && rates.inFlight >= Math.max(1, Math.ceil(share(limits.concurrency)))) {
      return limited(`${limits.concurrency} requests at once`, tenant, CONCURRENCY_RETRY_MS);
    }
    const waitMs = rates.requests?.take(1, nowMs) ?? 0;
    if (waitMs > 0) return limited(`${limits.rpm} requests per minute`, tenant, waitMs);
    const tokensMs = rates.tokens?.take(tokens, nowMs) ?? 0;
    if (tokensMs > 0) {
      rates.requests?.correct(1);
      return limited(`${limits.tpm} tokens per minute`, tenant, tokensMs);
    }
    rates.inFlight++;
    return undefined;
  }
}

function rateOf(rate: Rate | undefined, limit: number | undefined, share: (limit: number) => number, nowMs: number): Rate | undefined {
  if (limit === undefined) return undefined;
  if (rate === undefined) return new Rate(share(limit), nowMs);
  rate.set(share(limit), nowMs);
  return rate;
}

function limited(what: string, tenant: string, retryAfterMs: number): SignalboxError {
  return new SignalboxError("RATE_LIMITED", `The tenant '${tenant}' may make ${what}.`, { retryAfterMs });
}

/** What a caller may learn of a request that was refused at the door. */
export function refusedFacts({ requestId }: Intake): ReplyFacts {
  return { ...NO_FACTS, requestId };
}
