import type { DecideRequest } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { ClassName, Config } from "#libs/config/model.ts";
import type { ConfigSource } from "#libs/config/source.ts";
import { type CompiledRule, compileRules, RULE_EXCLUDED, RULE_FINE, ruleFor, verdictOn } from "#libs/rules/index.ts";

/** The rule that applies to one request. */
export interface AppliedRule {
  /** The class it gives; undefined = the request keeps its own. */
  readonly class: ClassName | undefined;
  /** Why a backend may not serve the request; undefined = it may. */
  readonly against: (backend: string) => { readonly requirement: string; readonly detail: string } | undefined;
}

const NO_LABELS: ReadonlyMap<string, string> = new Map();

/**
 * The configuration's rules for decisions without an engine: where data may go must not depend on who is up. They are compiled with the
 * first such decision after a change; most processes never make one.
 */
export class FallbackRules {
  readonly #source: ConfigSource;
  #config: Config | undefined;
  #rules: readonly CompiledRule[] = [];

  constructor(source: ConfigSource) {
    this.#source = source;
  }

  /** The first that applies, for a model by its own name. Throws SignalboxError REQUEST_MALFORMED when a rule does not compile. */
  of(request: DecideRequest, model: string, className: ClassName): AppliedRule | undefined {
    const config = this.#source.current;
    if (config !== this.#config) {
      this.#rules = compileRules(config.rules, []);
      this.#config = config;
    }
    const rule = ruleFor(this.#rules, request, model, className);
    if (rule === undefined) return undefined;
    const written = config.rules[this.#rules.indexOf(rule)]!;
    return {
      class: rule.class,
      against: (name) => {
        // A backend this process does not know has no label that could be required.
        const verdict = verdictOn(written, { name, labels: config.backends.get(name)?.labels ?? NO_LABELS });
        if (verdict === RULE_FINE) return undefined;
        if (verdict === RULE_EXCLUDED) return { requirement: "rule", detail: `excluded by rule ${rule.name}` };
        return { requirement: rule.requirement, detail: `rule ${rule.name} requires other labels` };
      },
    };
  }
}
