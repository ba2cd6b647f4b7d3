import { bifrost, litellm, portkey } from "./peers.ts";
import { direct, floor } from "./plain.ts";
import { embedded, mesh } from "./signalbox.ts";
import type { Target } from "./target.ts";

export { type BenchEnvironment, type RunningTarget, type Target, type TargetId } from "./target.ts";

/** In the order they are measured: what is compared stands side by side. */
export const TARGETS: readonly Target[] = [direct, floor, embedded, mesh, portkey, litellm, bifrost];
