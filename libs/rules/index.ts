export {
  bindingsOf,
  checkRule,
  type CompiledRule,
  compileRules,
  RULE_EXCLUDED,
  RULE_FINE,
  RULE_LABEL,
  type RuleBackend,
  ruleFor,
  verdictOn,
} from "./rules.ts";
