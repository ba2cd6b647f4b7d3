export type { StateStore } from "./auth.ts";
export type { Generation, Inference, InferenceCall } from "./inference.ts";
export { createIngress, type IngressDeps, type IngressHost, type IngressHost as InferenceHost } from "./module.ts";
export type { OutboxPort } from "./outbox-port.ts";
export { inferenceRpc } from "./rpc.ts";
