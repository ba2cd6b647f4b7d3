export { createPolicyEngine, type PolicyEngineDeps, type PolicyEngineHost } from "./module.ts";
export { MemoryRecords, type DecisionRecords } from "./records.ts";
export { policyRpc } from "./rpc.ts";
export { checkRule } from "./rules.ts";
