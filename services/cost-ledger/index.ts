export { createCostLedger, type CostLedgerDeps, type CostLedgerHost } from "./module.ts";
export { controlRpc, ledgerRpc } from "./rpc.ts";
export { buildPriceBook, type BuiltBook } from "./price-book/index.ts";
