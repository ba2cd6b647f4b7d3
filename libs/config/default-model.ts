import type { ModelConfig } from "./model.ts";

/** A model over some backends, everything else as by default, with the parts given put in place. */
export function defaultModel(name: string, candidates: readonly string[], parts: Partial<ModelConfig> = {}): ModelConfig {
  return {
    name,
    aliases: [],
    candidates,
    requires: new Set(),
    sla: { ttftMs: undefined, tpotMs: undefined, deadlineMs: undefined },
    class: "standard",
    midStream: "error",
    singleFlight: false,
    ...parts,
  };
}
