export {
  baselineCost,
  costOf,
  estimateCost,
  expectedNanoUsd,
  gpuSecondsOf,
  promptTokensOf,
  TYPICAL_GPU_RATES,
  upperBound,
  WORST_GPU_RATES,
  type Cost,
  type GpuRates,
  type UsageTokens,
} from "./cost.ts";
export { budgetSpecs, SYSTEM_TENANT, systemTeam, isCharged, type BudgetSpec } from "./budget-spec.ts";
export { windowAt, type BudgetPeriod, type BudgetWindow } from "./budget-windows.ts";
export { blankLine } from "./blank-line.ts";
export {
  formatAmount,
  formatUsd,
  NANO_PER_USD,
  parseCataloguePerMillion,
  parseDecimal,
  parsePerMillion,
  parsePerToken,
  parseUsd,
  PICO_PER_NANO,
  roundHalfUp,
} from "./decimal.ts";
export { entryJson, outcomeWord, rfc3339, type EntryJson, type OutcomeWord } from "./entry-json.ts";
export {
  BASELINE,
  constantRates,
  compilePriceBook,
  EMPTY_PRICE_INDEX,
  isPriced,
  isScheduleActive,
  ratesAt,
  ratesIn,
  type MatchedRates,
  type PriceIndex,
  type PriceLines,
} from "./price-index.ts";
export { parseInvoice } from "./invoice-file.ts";
export type { Rates } from "./rates.ts";
export { seenTokens, tokensIn } from "./seen-tokens.ts";
