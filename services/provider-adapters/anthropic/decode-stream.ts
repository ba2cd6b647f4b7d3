import type { AttemptError } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { attemptError, EVENT_MAX_BYTES, type AnswerFacts, type DecodeContext, type StreamDecoder, type StreamOutput } from "../codec.ts";
import { createSseReader, type SseReader } from "../sse/index.ts";
import { isObject, objectOf, textOf, type JsonObject } from "./api.ts";
import { ChunkWriter } from "./chunk-writer.ts";
import { finishReasonOf, refusalOf, type FinishReason } from "./finish.ts";
import { errorOfEvent } from "./map-error.ts";
import { StreamBlocks } from "./stream-blocks.ts";
import { UsageMeter } from "./usage.ts";
import { Warnings } from "./warnings.ts";

/** Facts of an answer, with what had to be left out of it. */
export interface AnthropicFacts extends AnswerFacts {
  /** "name: what" for blocks that have no place in the client's dialect. */
  readonly warnings: readonly string[];
}

/** Decodes a Messages stream into OpenAI chat chunks. Never throws. */
export function createStreamDecoder(context: DecodeContext, output: StreamOutput): StreamDecoder {
  return new MessagesStreamDecoder(context, output);
}

class MessagesStreamDecoder implements StreamDecoder {
  readonly #context: DecodeContext;
  readonly #output: StreamOutput;
  readonly #reader: SseReader;
  readonly #usage = new UsageMeter();
  readonly #warnings = new Warnings();
  #writer: ChunkWriter | undefined;
  #blocks: StreamBlocks | undefined;
  #responseId = "";
  #upstreamModel = "";
  #stopReason = "";
  #stopDetails: unknown;
  #finishReason: FinishReason | "" = "";
  #contentEvents = 0;
  #refusalBytes = 0;
  #isComplete = false;
  #failure: AttemptError | undefined;
  #hasEnded = false;

  constructor(context: DecodeContext, output: StreamOutput) {
    this.#context = context;
    this.#output = output;
    this.#reader = createSseReader(EVENT_MAX_BYTES, {
      event: (name, data) => this.#event(name, data),
      overflow: () => this.#fail("an event is too long"),
    });
  }

  push(chunk: Uint8Array): void {
    if (this.#hasEnded) return;
    this.#reader.push(chunk);
    this.#flush();
  }

  finish(): void {
    if (this.#hasEnded) return;
    this.#reader.finish();
    if (!this.#isComplete && this.#failure === undefined) this.#fail("the stream ended before message_stop", "upstream_truncated");
    this.#flush();
  }

  facts(): AnthropicFacts {
    return {
      usage: this.#usage.usage(),
      finishReason: this.#finishReason,
      upstreamModel: this.#upstreamModel,
      responseId: this.#responseId,
      contentBytes: (this.#blocks?.contentBytes ?? 0) + this.#refusalBytes,
      contentEvents: this.#contentEvents,
      warnings: this.#warnings.list(),
    };
  }

  #event(name: string, data: string): void {
    if (this.#isComplete || this.#failure !== undefined) return;
    let event: unknown;
    try {
      event = JSON.parse(data);
    } catch {
      return this.#fail("an event is not valid JSON");
    }
    if (!isObject(event)) return this.#fail("an event is not a JSON object");
    switch (event["type"]) {
      case "content_block_delta":
        return this.#check(this.#opened().delta(indexOf(event), objectOf(event["delta"])));
      case "content_block_start":
        return this.#check(this.#opened().start(indexOf(event), objectOf(event["content_block"])));
      case "content_block_stop":
        return this.#blocks?.stop(indexOf(event));
      case "message_start":
        return this.#messageStart(objectOf(event["message"]));
      case "message_delta":
        return this.#messageDelta(event);
      case "message_stop":
        return this.#messageStop();
      case "error":
        this.#failure = errorOfEvent(event["error"]);
        return undefined;
      case "ping":
        return undefined;
      default:
        if (name === "error" || isObject(event["error"])) this.#failure = errorOfEvent(event["error"]);
        else this.#warnings.add("stream", `an event of type ${JSON.stringify(event["type"] ?? null).slice(0, 60)} was left out`);
    }
  }

  /** A repeated start is harmless as long as nothing was put out, or where it is the same answer's. */
  #messageStart(message: JsonObject): void {
    const id = textOf(message["id"]);
    if (this.#blocks?.hasStarted === true && id !== this.#responseId) return this.#fail("a second answer begins inside the first");
    this.#usage.take(message["usage"]);
    if (this.#blocks?.hasStarted === true) return;
    this.#responseId = id;
    this.#upstreamModel = textOf(message["model"]);
    this.#stopReason = textOf(message["stop_reason"]);
    this.#stopDetails = message["stop_details"];
    const blocks = this.#opened();
    const content = Array.isArray(message["content"]) ? message["content"] : [];
    for (const [index, block] of content.entries()) {
      this.#check(blocks.start(index, objectOf(block)));
      blocks.stop(index);
    }
  }

  #messageDelta(event: JsonObject): void {
    const delta = objectOf(event["delta"]);
    this.#usage.take(event["usage"]);
    if (typeof delta["stop_reason"] === "string") this.#stopReason = delta["stop_reason"];
    if (isObject(delta["stop_details"])) this.#stopDetails = delta["stop_details"];
  }

  #messageStop(): void {
    const blocks = this.#opened();
    const writer = this.#writer!;
    if (this.#stopReason === "") return this.#fail("the answer has no stop_reason", "upstream_truncated");
    blocks.stopAll();
    this.#finishReason = finishReasonOf(this.#stopReason);
    if (this.#finishReason === "tool_calls" && blocks.tools === 0) this.#finishReason = "stop";
    if (this.#finishReason === "content_filter") {
      const refusal = refusalOf(this.#stopDetails);
      this.#refusalBytes = refusal.length;
      writer.refusal(refusal);
    }
    writer.finish(this.#finishReason);
    this.#isComplete = true;
  }

  /** The blocks, opened by the first event that needs them: a gateway may forget message_start. */
  #opened(): StreamBlocks {
    if (this.#blocks !== undefined) return this.#blocks;
    const { open, backend, nowMs } = this.#context;
    const writer = new ChunkWriter({
      id: this.#responseId === "" ? `chatcmpl-${open.attemptId}` : this.#responseId,
      created: Math.floor(nowMs / 1000),
      model: this.#upstreamModel === "" ? backend.model : this.#upstreamModel,
      includeUsage: open.includeUsage,
    });
    writer.role();
    this.#writer = writer;
    this.#blocks = new StreamBlocks(writer, this.#warnings, open.resumePrefix);
    return this.#blocks;
  }

  #check(problem: string | undefined): void {
    if (problem !== undefined) this.#fail(problem);
  }

  #fail(problem: string, code = ""): void {
    this.#failure ??= attemptError("UPSTREAM_PROTOCOL", `anthropic stream: ${problem}`, { code });
  }

  /** Puts out what one push brought, in one piece, and then the end. */
  #flush(): void {
    const batch = this.#writer?.takeBatch();
    if (batch !== undefined) {
      this.#contentEvents += batch.contentEvents;
      this.#output.data(Buffer.from(batch.text), batch.contentEvents > 0, batch.contentEvents);
    }
    if (!this.#isComplete && this.#failure === undefined) return;
    this.#hasEnded = true;
    const usage = this.#usage.usage();
    const hasUsageEvent = this.#failure === undefined && this.#context.open.includeUsage && usage !== undefined;
    this.#output.end({
      error: this.#failure,
      usageEvent: hasUsageEvent ? Buffer.from(this.#writer!.usageEvent(usage)) : undefined,
      garbage: this.#failure === undefined && this.#isEmpty(),
    });
  }

  #isEmpty(): boolean {
    return this.#contentEvents === 0 && this.#finishReason !== "length" && (this.#blocks?.skipped ?? 0) === 0;
  }
}

/** The block's index; a broken one becomes -1, a block nobody opened. */
function indexOf(event: JsonObject): number {
  return typeof event["index"] === "number" ? event["index"] : -1;
}
