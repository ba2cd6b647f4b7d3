import type { ToolResultBlock } from "./api.ts";
import { malformed } from "./encode-content.ts";

/**
 * One assistant turn's tool calls and the results that answer them. The API wants every result, in one user message,
 * before any other content; what is missing or foreign is refused here, before money is spent on a 400.
 */
export class ToolTurn {
  readonly #order: readonly string[];
  readonly #results = new Map<string, ToolResultBlock>();
  readonly #param: string;

  /** `ids` are the calls as the client names them, in order; `param` is the assistant message. */
  constructor(ids: readonly string[], param: string) {
    this.#order = ids;
    this.#param = param;
    if (new Set(ids).size !== ids.length) throw malformed("two tool calls share an id", `${param}.tool_calls`);
  }

  /** Takes the result of call `id`; a foreign or repeated one is refused. */
  answer(id: string, result: ToolResultBlock, param: string): void {
    if (!this.#order.includes(id)) throw malformed(`tool_call_id ${quoted(id)} answers no call of the preceding assistant message`, param);
    if (this.#results.has(id)) throw malformed(`tool_call_id ${quoted(id)} is answered twice`, param);
    this.#results.set(id, result);
  }

  /** Results in the order of the calls; refuses when one is missing. */
  complete(): ToolResultBlock[] {
    return this.#order.map((id) => {
      const result = this.#results.get(id);
      if (result === undefined) throw malformed(`tool call ${quoted(id)} has no tool message that answers it`, `${this.#param}.tool_calls`);
      return result;
    });
  }
}

function quoted(id: string): string {
  return JSON.stringify(id.slice(0, 80));
}
