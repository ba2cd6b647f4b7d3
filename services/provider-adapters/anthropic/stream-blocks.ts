import { textOf, type JsonObject } from "./api.ts";
import type { ChunkWriter } from "./chunk-writer.ts";
import { restoreToolId } from "./tool-ids.ts";
import type { Warnings } from "./warnings.ts";

/** Content blocks one answer may open: far beyond any real one, so that a hostile stream cannot fill memory with them. */
const BLOCKS_MAX = 4096;

/** Thinking kept per answer for the replay extension, characters: the longest output of any model is below that. */
const REPLAY_MAX_CHARS = 4 * 1024 * 1024;

type Block =
  | { readonly kind: "text" }
  | { readonly kind: "thinking"; thinking: string; signature: string }
  | { readonly kind: "redacted"; readonly data: string }
  | { readonly kind: "tool"; readonly toolIndex: number; readonly input: unknown; hasArguments: boolean }
  | { readonly kind: "skipped" };

/**
 * The content blocks of one streamed answer, turned into deltas. A block's index is the API's; a tool's index counts tool
 * calls only. Methods return what is wrong with the stream, or undefined.
 */
export class StreamBlocks {
  readonly #writer: ChunkWriter;
  readonly #warnings: Warnings;
  readonly #open = new Map<number, Block>();
  #started = 0;
  #tools = 0;
  #skipped = 0;
  #replayChars = 0;
  #contentBytes = 0;

  /** Whether the next text loses its leading white space. */
  #trimsStart: boolean;

  /** `resumePrefix` is what the client has already: white space at its end was not sent upstream, so it is not taken again. */
  constructor(writer: ChunkWriter, warnings: Warnings, resumePrefix: string) {
    this.#writer = writer;
    this.#warnings = warnings;
    this.#trimsStart = resumePrefix !== resumePrefix.trimEnd();
  }

  /** Text, reasoning and arguments put out, characters. */
  get contentBytes(): number {
    return this.#contentBytes;
  }

  get tools(): number {
    return this.#tools;
  }

  /** Whether any block was started: from then on a second answer cannot be told from the first. */
  get hasStarted(): boolean {
    return this.#started > 0;
  }

  /** Blocks that have no place in the client's dialect. */
  get skipped(): number {
    return this.#skipped;
  }

  start(index: number, block: JsonObject): string | undefined {
    if (++this.#started > BLOCKS_MAX) return "too many content blocks";
    this.#close(index);
    switch (block["type"]) {
      case "text":
        this.#open.set(index, { kind: "text" });
        this.#text(textOf(block["text"]));
        return undefined;
      case "thinking": {
        const opened: Block = { kind: "thinking", thinking: "", signature: textOf(block["signature"]) };
        this.#open.set(index, opened);
        this.#thinking(opened, textOf(block["thinking"]));
        return undefined;
      }
      case "redacted_thinking":
        this.#open.set(index, { kind: "redacted", data: textOf(block["data"]) });
        return undefined;
      case "tool_use":
        return this.#startTool(index, block);
      default:
        this.#skipped++;
        this.#open.set(index, { kind: "skipped" });
        this.#warnings.add("content", `a block of type ${JSON.stringify(block["type"] ?? null).slice(0, 60)} was left out`);
        return undefined;
    }
  }

  delta(index: number, delta: JsonObject): string | undefined {
    const block = this.#open.get(index);
    switch (delta["type"]) {
      case "text_delta":
        if (block?.kind !== "skipped") this.#text(textOf(delta["text"]));
        return undefined;
      case "thinking_delta":
        if (block?.kind === "thinking") this.#thinking(block, textOf(delta["thinking"]));
        return undefined;
      case "signature_delta":
        if (block?.kind === "thinking") block.signature += textOf(delta["signature"]);
        return undefined;
      case "input_json_delta":
        return this.#arguments(block, textOf(delta["partial_json"]));
      case "citations_delta":
        this.#warnings.add("content", "citations were left out");
        return undefined;
      default:
        if (block?.kind !== "skipped")
          this.#warnings.add("content", `a delta of type ${JSON.stringify(delta["type"] ?? null).slice(0, 60)} was left out`);
        return undefined;
    }
  }

  stop(index: number): void {
    this.#close(index);
  }

  /** Closes what the stream left open. */
  stopAll(): void {
    for (const index of this.#open.keys()) this.#close(index);
  }

  #text(received: string): void {
    const text = this.#trimsStart ? received.trimStart() : received;
    if (text === "") return;
    this.#trimsStart = false;
    this.#contentBytes += text.length;
    this.#writer.content(text);
  }

  #thinking(block: Extract<Block, { kind: "thinking" }>, text: string): void {
    if (text === "") return;
    this.#contentBytes += text.length;
    this.#replayChars += text.length;
    if (this.#replayChars <= REPLAY_MAX_CHARS) block.thinking += text;
    this.#writer.reasoning(text);
  }

  #startTool(index: number, block: JsonObject): string | undefined {
    const id = textOf(block["id"]);
    const name = textOf(block["name"]);
    if (id === "" || name === "") return "a tool call without id or name";
    const toolIndex = this.#tools++;
    this.#open.set(index, { kind: "tool", toolIndex, input: block["input"], hasArguments: false });
    this.#contentBytes += name.length;
    this.#writer.toolStart(toolIndex, restoreToolId(id), name);
    return undefined;
  }

  #arguments(block: Block | undefined, piece: string): string | undefined {
    if (block === undefined || block.kind === "text") return "tool arguments without a tool call";
    if (block.kind !== "tool" || piece === "") return undefined;
    block.hasArguments = true;
    this.#contentBytes += piece.length;
    this.#writer.toolArguments(block.toolIndex, piece);
    return undefined;
  }

  #close(index: number): void {
    const block = this.#open.get(index);
    if (block === undefined) return;
    this.#open.delete(index);
    if (block.kind === "tool" && !block.hasArguments) this.#writer.toolArguments(block.toolIndex, JSON.stringify(block.input ?? {}));
    if (block.kind === "redacted") this.#writer.thinkingBlock(JSON.stringify({ type: "redacted_thinking", data: block.data }));
    if (block.kind === "thinking" && block.signature !== "" && this.#replayChars <= REPLAY_MAX_CHARS) {
      this.#writer.thinkingBlock(JSON.stringify({ type: "thinking", thinking: block.thinking, signature: block.signature }));
    }
  }
}
