export { createPolicyEngine, type PolicyEngineDeps, type PolicyEngineHost } from "./module.ts";
export { MemoryRecords, type DecisionRecords } from "./records.ts";
export { StoredRecords, type RecordPort } from "./records-file.ts";
export { policyRpc } from "./rpc.ts";
export { checkRule } from "./rules.ts";
