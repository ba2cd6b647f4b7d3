import type { ChatRequest } from "./openai/chat.ts";
import { isObject, type JsonObject } from "./openai/parse.ts";

/** Content classes, as DecideRequest numbers them. */
export const CONTENT_CLASS = { latin: 0, cjk: 1, code: 2 } as const;

/** UTF-8 bytes per token by content class before anything was learned (routing, 1.3). */
const BYTES_PER_TOKEN = [4.0, 2.0, 3.2] as const;

/** Tokens that frame one message. */
const MESSAGE_TOKENS = 4;

/** Tokens of an image: OpenAI's tiles of a 1024 x 1024 picture in high and in low detail. */
const IMAGE_TOKENS = 765;
const IMAGE_LOW_TOKENS = 85;

/** Tokens of a file part, at least: a page or two. */
const FILE_TOKENS = 1_500;

/** Base64 bytes of a document or of speech per token: compressed formats hold little text per byte. */
const FILE_BYTES_PER_TOKEN = 40;
const AUDIO_BYTES_PER_TOKEN = 1_600;

/** Characters looked at to tell prose from code. */
const SAMPLE_CHARS = 512;

/** Characters code and JSON are full of and prose is not. */
const STRUCTURAL = new Uint8Array(128);
for (const character of "{}[]();=<>") STRUCTURAL[character.charCodeAt(0)] = 1;

/** Share of structural characters from which a text counts as code or JSON. */
const CODE_SHARE = 0.08;

/** Bytes per UTF-16 unit from which a text counts as CJK: its characters take three bytes, accented Latin about 1.2. */
const CJK_BYTES_PER_CHAR = 1.8;

/** What a prompt weighs. */
export interface PromptSize {
  /** Estimated tokens of text and framing, before the learned correction. */
  readonly textTokens: number;
  /** Tokens of images, files and audio, which the correction does not touch. */
  readonly mediaTokens: number;
  /** Bytes of text, tool schemas included. */
  readonly bytes: number;
  readonly contentClass: number;
  readonly hasImage: boolean;
  readonly hasAudio: boolean;
  readonly hasFile: boolean;
}

class Sizer {
  bytes = 0;
  chars = 0;
  mediaTokens = 0;
  hasImage = false;
  hasAudio = false;
  hasFile = false;
  sampled = 0;
  structural = 0;

  text(text: unknown): void {
    if (typeof text !== "string") return;
    this.bytes += Buffer.byteLength(text);
    this.chars += text.length;
    if (this.sampled < SAMPLE_CHARS) this.look(text);
  }

  part(part: JsonObject): void {
    switch (part["type"]) {
      case "image_url": {
        this.hasImage = true;
        const image = part["image_url"] as JsonObject;
        this.mediaTokens += image["detail"] === "low" ? IMAGE_LOW_TOKENS : IMAGE_TOKENS;
        break;
      }
      case "input_audio": {
        this.hasAudio = true;
        const data = (part["input_audio"] as JsonObject)["data"];
        this.mediaTokens += typeof data === "string" ? Math.ceil(data.length / AUDIO_BYTES_PER_TOKEN) : 0;
        break;
      }
      case "file": {
        this.hasFile = true;
        const data = (part["file"] as JsonObject)["file_data"];
        this.mediaTokens += Math.max(FILE_TOKENS, typeof data === "string" ? Math.ceil(data.length / FILE_BYTES_PER_TOKEN) : 0);
        break;
      }
      default:
        this.text(part["text"] ?? part["refusal"]);
    }
  }

  /** Counts structural characters at the start of a text, as far as the sample goes. */
  look(text: string): void {
    const end = Math.min(text.length, SAMPLE_CHARS - this.sampled);
    this.sampled += end;
    for (let at = 0; at < end; at++) {
      const code = text.charCodeAt(at);
      if (code < 128 && STRUCTURAL[code] === 1) this.structural++;
    }
  }

  contentClass(): number {
    if (this.chars > 0 && this.bytes / this.chars >= CJK_BYTES_PER_CHAR) return CONTENT_CLASS.cjk;
    return this.sampled > 0 && this.structural / this.sampled >= CODE_SHARE ? CONTENT_CLASS.code : CONTENT_CLASS.latin;
  }
}

/** Sizes a prompt: one pass over the parsed messages. `toolBytes` = bytes of the tool schemas as sent. */
export function sizePrompt(chat: ChatRequest, toolBytes: number): PromptSize {
  const sizer = new Sizer();
  for (const message of chat.messages) {
    const content = message["content"];
    if (typeof content === "string") sizer.text(content);
    else if (Array.isArray(content)) for (const part of content as readonly JsonObject[]) sizer.part(part);
    const calls = message["tool_calls"];
    if (Array.isArray(calls)) for (const call of calls as readonly JsonObject[]) countCall(sizer, call);
  }
  const contentClass = sizer.contentClass();
  const textTokens =
    Math.ceil(sizer.bytes / BYTES_PER_TOKEN[contentClass]!) +
    chat.messages.length * MESSAGE_TOKENS +
    Math.ceil(toolBytes / BYTES_PER_TOKEN[CONTENT_CLASS.code]);
  return {
    textTokens,
    mediaTokens: sizer.mediaTokens,
    bytes: sizer.bytes + toolBytes,
    contentClass,
    hasImage: sizer.hasImage,
    hasAudio: sizer.hasAudio,
    hasFile: sizer.hasFile,
  };
}

/** Sizes embeddings inputs: texts by their bytes, and tokens that are counted already. */
export function sizeInputs(texts: readonly string[], tokens: number): PromptSize {
  const sizer = new Sizer();
  for (const text of texts) sizer.text(text);
  const contentClass = sizer.contentClass();
  const textTokens = Math.ceil(sizer.bytes / BYTES_PER_TOKEN[contentClass]!);
  return { textTokens, mediaTokens: tokens, bytes: sizer.bytes, contentClass, hasImage: false, hasAudio: false, hasFile: false };
}

function countCall(sizer: Sizer, call: JsonObject): void {
  const definition = call["function"];
  if (!isObject(definition)) return;
  sizer.text(definition["name"]);
  sizer.text(definition["arguments"]);
}

/** Weight of a new observation in the learned correction (routing, 1.3). */
const LEARN_WEIGHT = 0.02;

/** Bounds of the learned correction. */
const FACTOR_MIN = 0.25;
const FACTOR_MAX = 4;

/** Model and content class pairs that are learned; models come from the configuration, so this is ample. */
const FACTORS_MAX = 1_024;

/** Learns, per model and content class, by how much the byte-based estimate misses what providers count. */
export class TokenFactors {
  readonly #factors = new Map<string, number>();

  /** Correction to multiply text tokens by; 1 until something was learned. */
  factor(model: string, contentClass: number): number {
    return this.#factors.get(`${contentClass}${model}`) ?? 1;
  }

  /** A provider stated `observedTokens` for a prompt estimated, uncorrected, at `textTokens` plus `mediaTokens`. */
  learn(model: string, contentClass: number, textTokens: number, mediaTokens: number, observedTokens: number): void {
    const observed = observedTokens - mediaTokens;
    if (textTokens < 16 || observed <= 0) return;
    const key = `${contentClass}${model}`;
    const known = this.#factors.get(key);
    if (known === undefined && this.#factors.size >= FACTORS_MAX) return;
    const ratio = Math.min(FACTOR_MAX, Math.max(FACTOR_MIN, observed / textTokens));
    this.#factors.set(key, (known ?? 1) + LEARN_WEIGHT * (ratio - (known ?? 1)));
  }
}
