export { UpstreamCall, type UpstreamListener } from "./call.ts";
export type { UpstreamFailure } from "./failure.ts";
export { type Sweepable, Sweeper, SWEEP_PERIOD_MS } from "./sweeper.ts";
export { createTransport, type Transport, type UpstreamRequest } from "./transport.ts";
