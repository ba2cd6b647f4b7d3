import { type DecideRequest, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Clock } from "#libs/clock/index.ts";
import type { Refusal } from "#libs/capability/index.ts";
import type { ClassName, Config } from "#libs/config/model.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { type PriceIndex, ratesAt, upperBound } from "#libs/money/index.ts";
import { type CompiledRule, compileRules, RULE_FINE, ruledOutBy, ruleFor } from "#libs/rules/index.ts";

/** Output of a request without a limit, tokens: what a policy engine takes for a long answer before it has seen any. */
const LONG_ANSWER_TOKENS = 800;

/** The rule that applies to one request. */
export interface AppliedRule {
  /** The class it gives; undefined = the request keeps its own. */
  readonly class: ClassName | undefined;
  /** Why a backend may not serve the request; undefined = it may. */
  readonly against: (backend: string) => Refusal | undefined;
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

/**
 * What must hold of decisions without an engine too: where data may go, and what a caller pays at most, must not depend on who is up.
 * Rules are compiled with the configuration: to load their language takes a tenth of a second, and when no engine answers is no time for it.
 */
export class FallbackConstraints {
  readonly #prices: { readonly index: PriceIndex };
  readonly #clock: Clock;
  #config: Config;
  #rules: readonly CompiledRule[];

  /** Throws SignalboxError REQUEST_MALFORMED when a rule does not compile. */
  constructor(source: ConfigSource, prices: { readonly index: PriceIndex }, clock: Clock) {
    this.#prices = prices;
    this.#clock = clock;
    this.#config = source.current;
    this.#rules = compileRules(this.#config.rules, []);
    source.onChange((config) => {
      this.#rules = compileRules(config.rules, []);
      this.#config = config;
    });
  }

  /**
   * Whether a request may cost more on a backend than its caller allows. Not of what is rented: how much of an hour a request takes only an
   * engine can say. What has no price is no matter of this.
   */
  isTooDear({ operation, maxCostNanoUsd, inputTokens, maxOutputTokens, choices }: DecideRequest, backend: string): boolean {
    if (maxCostNanoUsd === 0n) return false;
    const { index } = this.#prices;
    const atMs = this.#clock.now();
    if ((ratesAt(index, backend, atMs, inputTokens, "")?.rates.hourNano ?? 0) > 0) return false;
    const outputTokens = operation === Operation.EMBEDDINGS ? 0 : Math.max(1, choices) * (maxOutputTokens || LONG_ANSWER_TOKENS);
    const bound = upperBound(index, backend, inputTokens, outputTokens, atMs);
    return bound !== undefined && bound > maxCostNanoUsd;
  }

  /** The first rule that applies, for a model by its own name. */
  ruleOf(request: DecideRequest, model: string, className: ClassName): AppliedRule | undefined {
    const rule = ruleFor(this.#rules, request, model, className);
    if (rule === undefined) return undefined;
    const { backends } = this.#config;
    return {
      class: rule.class,
      against: (name) => {
        // A backend this process does not know has no label that could be required.
        const verdict = rule.verdictOn({ name, labels: backends.get(name)?.labels ?? NO_LABELS });
        return verdict === RULE_FINE ? undefined : ruledOutBy(rule, verdict);
      },
    };
  }
}
