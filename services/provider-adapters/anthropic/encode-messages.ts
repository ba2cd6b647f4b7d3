import {
  isObject,
  objectOf,
  textOf,
  type AnthropicMessage,
  type ContentBlock,
  type JsonObject,
  type TextBlock,
  type ThinkingBlock,
  type ToolResultBlock,
} from "./api.ts";
import { cacheMark, contentText, encodeContent, hasText, malformed, unsupported } from "./encode-content.ts";
import { legalToolId } from "./tool-ids.ts";
import { ToolTurn } from "./tool-turn.ts";
import type { Warnings } from "./warnings.ts";

/** Stands for the missing user where a conversation begins with the assistant; the API wants the user first. */
const MISSING_USER: TextBlock = { type: "text", text: "." };

/** A conversation in the API's words. */
export interface EncodedMessages {
  readonly system: readonly TextBlock[];
  readonly messages: readonly AnthropicMessage[];
  /** Names of the tools the history calls: the API wants them declared. */
  readonly toolNames: ReadonlySet<string>;
  /** Whether the last assistant turn calls tools and brought no thinking back: budgeted thinking is refused then. */
  readonly toolTurnWithoutThinking: boolean;
}

/** Turns OpenAI messages into `system` blocks and alternating user and assistant messages. Refuses what the API would refuse. */
export function encodeMessages(list: unknown, warnings: Warnings): EncodedMessages {
  if (!Array.isArray(list) || list.length === 0) throw malformed("must be a non-empty array", "messages");
  const encoder = new MessagesEncoder(warnings);
  for (const [index, message] of list.entries()) {
    if (!isObject(message)) throw malformed("must be an object", `messages[${index}]`);
    encoder.take(message, `messages[${index}]`);
  }
  return encoder.finish();
}

class MessagesEncoder {
  readonly #warnings: Warnings;
  readonly #system: TextBlock[] = [];
  readonly #messages: AnthropicMessage[] = [];
  readonly #toolNames = new Set<string>();
  #turn: ToolTurn | undefined;
  /** User content that came between an assistant's tool calls and their results; it goes behind them. */
  #held: ContentBlock[] = [];
  #toolTurnWithoutThinking = false;
  /** Name of the last deprecated `function_call`, whose result names only the function. */
  #legacyCall = "";

  constructor(warnings: Warnings) {
    this.#warnings = warnings;
  }

  take(message: JsonObject, param: string): void {
    if (message["name"] !== undefined && message["role"] !== "function") this.#warnings.add("messages.name", "dropped");
    switch (message["role"]) {
      case "system":
      case "developer":
        return this.#takeSystem(message, param);
      case "user":
        return this.#user(encodeContent(message["content"], `${param}.content`));
      case "assistant":
        return this.#takeAssistant(message, param);
      case "tool":
        return this.#takeResult(message, textOf(message["tool_call_id"]), `${param}.tool_call_id`, param);
      case "function":
        return this.#takeResult(message, legacyId(this.#legacyCall), `${param}.name`, param);
      default:
        throw malformed("must be system, developer, user, assistant or tool", `${param}.role`);
    }
  }

  finish(): EncodedMessages {
    this.#closeTurn();
    if (this.#messages.length === 0) this.#promoteSystem();
    if (this.#messages[0]?.role === "assistant") {
      this.#messages.unshift({ role: "user", content: [MISSING_USER] });
      this.#warnings.add("messages", "the first one is not the user's, a placeholder went before it");
    }
    trimPrefill(this.#messages.at(-1));
    return {
      system: this.#system,
      messages: this.#messages,
      toolNames: this.#toolNames,
      toolTurnWithoutThinking: this.#toolTurnWithoutThinking,
    };
  }

  /** Leading ones become `system`; a later one stays where it is, as the user's words: every model takes that. */
  #takeSystem(message: JsonObject, param: string): void {
    if (this.#messages.length > 0) {
      const text = contentText(message["content"], `${param}.content`);
      if (!hasText(text)) return;
      this.#warnings.add("messages", "a system message after the first turn was sent as user text");
      return this.#user([{ type: "text", text }]);
    }
    for (const block of systemBlocks(message, param)) this.#addSystem(block);
  }

  /** Joins with the block before, unless one of them is marked for caching: a mark covers exactly its block. */
  #addSystem(block: TextBlock): void {
    const last = this.#system.at(-1);
    if (last === undefined || last.cache_control !== undefined || block.cache_control !== undefined) this.#system.push(block);
    else this.#system[this.#system.length - 1] = { type: "text", text: `${last.text}\n\n${block.text}` };
  }

  /** A conversation of instructions only: the last one is asked, since the API wants a user message. */
  #promoteSystem(): void {
    const last = this.#system.pop();
    if (last === undefined) throw malformed("holds no text", "messages");
    this.#warnings.add("messages", "without a user message, the system message was sent as the user's");
    this.#messages.push({ role: "user", content: [last] });
  }

  #user(blocks: readonly ContentBlock[]): void {
    if (this.#turn === undefined) this.#append("user", blocks);
    else this.#held.push(...blocks);
  }

  #takeAssistant(message: JsonObject, param: string): void {
    this.#closeTurn();
    if (message["audio"] !== undefined && message["audio"] !== null) throw unsupported("this backend takes no audio", `${param}.audio`);
    const thinking = thinkingBlocks(message);
    const content = encodeContent(message["content"], `${param}.content`);
    const refusal = textOf(message["refusal"]);
    if (content.length === 0 && hasText(refusal)) content.push({ type: "text", text: refusal });
    const calls = toolCalls(message, param);
    const blocks: ContentBlock[] = [...thinking, ...content];
    for (const call of calls) {
      this.#toolNames.add(call.name);
      blocks.push({ type: "tool_use", id: legalToolId(call.id), name: call.name, input: call.input });
    }
    if (content.length > 0 || calls.length > 0) this.#append("assistant", blocks);
    if (calls.length === 0) return;
    this.#toolTurnWithoutThinking = thinking.length === 0;
    this.#legacyCall = calls[0]!.name;
    this.#turn = new ToolTurn(
      calls.map((call) => call.id),
      param,
    );
  }

  #takeResult(message: JsonObject, id: string, idParam: string, param: string): void {
    if (this.#turn === undefined) throw malformed("follows no assistant message with tool calls", idParam);
    const content = message["content"];
    const parts = typeof content === "string" ? content : encodeContent(content, `${param}.content`);
    const result: ToolResultBlock = {
      type: "tool_result",
      tool_use_id: legalToolId(id),
      ...(parts.length === 0 ? {} : { content: parts }),
      ...(message["is_error"] === true ? { is_error: true } : {}),
      ...cacheMark(message),
    };
    this.#turn.answer(id, result, idParam);
  }

  /** Writes the user message that answers an assistant's tool calls: results first, then what else was said. */
  #closeTurn(): void {
    if (this.#turn === undefined) return;
    this.#append("user", [...this.#turn.complete(), ...this.#held]);
    this.#turn = undefined;
    this.#held = [];
  }

  #append(role: "user" | "assistant", blocks: readonly ContentBlock[]): void {
    if (blocks.length === 0) return;
    const last = this.#messages.at(-1);
    if (last?.role === role) last.content.push(...blocks);
    else this.#messages.push({ role, content: [...blocks] });
  }
}

function systemBlocks(message: JsonObject, param: string): TextBlock[] {
  const blocks = encodeContent(message["content"], `${param}.content`);
  return blocks.map((block) => {
    if (block.type !== "text") throw malformed("only text is possible here", `${param}.content`);
    return block;
  });
}

/** The `thinking_blocks` extension: what the model thought before, to be replayed unmodified with its tool calls. */
function thinkingBlocks(message: JsonObject): ThinkingBlock[] {
  const list = message["thinking_blocks"];
  if (!Array.isArray(list)) return [];
  const blocks: ThinkingBlock[] = [];
  for (const item of list) {
    const block = objectOf(item);
    const { thinking, signature, data } = block;
    if (block["type"] === "thinking" && typeof thinking === "string" && typeof signature === "string") {
      blocks.push({ type: "thinking", thinking, signature });
    } else if (block["type"] === "redacted_thinking" && typeof data === "string") {
      blocks.push({ type: "redacted_thinking", data });
    }
  }
  return blocks;
}

interface ToolCall {
  readonly id: string;
  readonly name: string;
  readonly input: JsonObject;
}

function toolCalls(message: JsonObject, param: string): ToolCall[] {
  const list = message["tool_calls"];
  if (Array.isArray(list)) return list.map((item, index) => toolCall(objectOf(item), `${param}.tool_calls[${index}]`));
  if (!isObject(message["function_call"])) return [];
  const name = textOf(message["function_call"]["name"]);
  return [{ id: legacyId(name), name, input: argumentsOf(message["function_call"], `${param}.function_call`) }];
}

function toolCall(call: JsonObject, param: string): ToolCall {
  if (call["type"] === "custom") throw unsupported("this backend takes no custom tools", `${param}.type`);
  const id = textOf(call["id"]);
  if (id === "") throw malformed("is missing", `${param}.id`);
  const target = objectOf(call["function"]);
  const name = textOf(target["name"]);
  if (name === "") throw malformed("is missing", `${param}.function.name`);
  return { id, name, input: argumentsOf(target, `${param}.function`) };
}

function argumentsOf(target: JsonObject, param: string): JsonObject {
  const text = textOf(target["arguments"]);
  if (!hasText(text)) return {};
  let input: unknown;
  try {
    input = JSON.parse(text);
  } catch {
    throw malformed("is not valid JSON", `${param}.arguments`);
  }
  if (!isObject(input)) throw malformed("must be a JSON object", `${param}.arguments`);
  return input;
}

/** Id for a deprecated function call, which has none. */
function legacyId(name: string): string {
  return `function_${name}`;
}

/** A final assistant message is a prefill, which may not end in white space. */
function trimPrefill(last: AnthropicMessage | undefined): void {
  const block = last?.role === "assistant" ? last.content.at(-1) : undefined;
  if (last !== undefined && block?.type === "text") last.content[last.content.length - 1] = { ...block, text: block.text.trimEnd() };
}
