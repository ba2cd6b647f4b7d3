import type { Usage } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { FinishReason } from "./finish.ts";
import { openaiUsage } from "./usage.ts";

/** What a batch of chunks holds. */
export interface ChunkBatch {
  readonly text: string;
  /** Chunks with content among them. */
  readonly contentEvents: number;
}

/** What all chunks of one answer share. */
export interface ChunkHead {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly model: string;
  /** Whether chunks carry `usage: null`, as they do where the client asked for usage. */
  readonly includeUsage: boolean;
}

/**
 * Writes OpenAI `chat.completion.chunk` events from templates: only what varies is turned into JSON. Events gather until
 * {@link takeBatch}, so that what one network chunk brought leaves in one piece.
 */
export class ChunkWriter {
  readonly #head: ChunkHead;
  readonly #before: string;
  readonly #after: string;
  #text = "";
  #events = 0;

  constructor(head: ChunkHead) {
    this.#head = head;
    this.#before = `${headOf(head)}"choices":[{"index":0,"delta":`;
    this.#after = `,"finish_reason":null}]${head.includeUsage ? ',"usage":null' : ""}}\n\n`;
  }

  /** The first delta, which names the role and holds no content. */
  role(): void {
    this.#text += `${this.#before}{"role":"assistant","content":"","refusal":null}${this.#after}`;
  }

  content(text: string): void {
    this.#content(`{"content":${JSON.stringify(text)}}`);
  }

  reasoning(text: string): void {
    this.#content(`{"reasoning_content":${JSON.stringify(text)}}`);
  }

  /** The extension by which a whole block of thinking comes back with the next request: `block` is its JSON. */
  thinkingBlock(block: string): void {
    this.#content(`{"thinking_blocks":[${block}]}`);
  }

  refusal(text: string): void {
    this.#content(`{"refusal":${JSON.stringify(text)}}`);
  }

  toolStart(index: number, id: string, name: string): void {
    const call = `{"index":${index},"id":${JSON.stringify(id)},"type":"function","function":{"name":${JSON.stringify(name)},"arguments":""}}`;
    this.#content(`{"tool_calls":[${call}]}`);
  }

  toolArguments(index: number, piece: string): void {
    this.#content(`{"tool_calls":[{"index":${index},"function":{"arguments":${JSON.stringify(piece)}}}]}`);
  }

  finish(reason: FinishReason): void {
    this.#text += `${this.#before}{}${this.#after.replace("null", `"${reason}"`)}`;
  }

  /** The final usage event; it does not join the batch. */
  usageEvent(usage: Usage): string {
    return `${headOf(this.#head)}"choices":[],"usage":${JSON.stringify(openaiUsage(usage))}}\n\n`;
  }

  /** What was written since the last call; undefined when nothing was. */
  takeBatch(): ChunkBatch | undefined {
    if (this.#text === "") return undefined;
    const batch = { text: this.#text, contentEvents: this.#events };
    this.#text = "";
    this.#events = 0;
    return batch;
  }

  #content(delta: string): void {
    this.#events++;
    this.#text += this.#before + delta + this.#after;
  }
}

function headOf(head: ChunkHead): string {
  return `data: {"id":${JSON.stringify(head.id)},"object":"chat.completion.chunk","created":${head.created},"model":${JSON.stringify(head.model)},`;
}
