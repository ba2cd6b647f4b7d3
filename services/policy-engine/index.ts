export { createPolicyEngine, type PolicyEngineDeps, type PolicyEngineHost } from "./module.ts";
export { MemoryRecords, type DecisionRecords } from "./records.ts";
export { readBlock } from "./record-blocks.ts";
export { StoredRecords, type RecordPort } from "./records-file.ts";
export { decodePolicy, type RecordedPolicy } from "./recorded-policy.ts";
export { policyRpc } from "./rpc.ts";
export { type PolicyChange, WhatIf, type WhatIfReport, type WhatIfSums } from "./what-if.ts";
