export {
  bindingsOf,
  checkRule,
  type CompiledRule,
  compileRules,
  RULE_EXCLUDED,
  RULE_FINE,
  RULE_LABEL,
  type RuleBackend,
  ruledOutBy,
  ruleFor,
} from "./rules.ts";
