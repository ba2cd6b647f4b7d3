import { SignalboxError } from "#libs/errors/index.ts";
import {
  isObject,
  objectOf,
  textOf,
  type DocumentBlock,
  type ImageBlock,
  type ImageSource,
  type JsonObject,
  type TextBlock,
} from "./api.ts";

export type PartBlock = TextBlock | ImageBlock | DocumentBlock;

/** `data:image/png;base64,...`; parameters between the type and `base64` are allowed and ignored. */
const DATA_URL = /^data:([a-z0-9.+-]+\/[a-z0-9.+-]+)(?:;[^,;]*)*;base64,/i;

/** Whether a text may be a block: the API refuses empty and blank ones. */
export function hasText(text: string): boolean {
  return text.trim() !== "";
}

/** The `cache_control` extension of a part, kept where callers mark what is worth caching. */
export function cacheMark(part: JsonObject): { cache_control?: JsonObject } {
  return isObject(part["cache_control"]) ? { cache_control: part["cache_control"] } : {};
}

/**
 * Blocks of an OpenAI `content`: a string, null, or an array of parts. Blank texts are left out.
 * `param` names the place for errors; audio and unknown parts are refused.
 */
export function encodeContent(content: unknown, param: string): PartBlock[] {
  if (content === undefined || content === null) return [];
  if (typeof content === "string") return hasText(content) ? [{ type: "text", text: content }] : [];
  if (!Array.isArray(content)) throw malformed("content must be a string or an array of parts", param);
  const blocks: PartBlock[] = [];
  for (const [index, part] of content.entries()) {
    const block = encodePart(objectOf(part), `${param}[${index}]`);
    if (block !== undefined) blocks.push(block);
  }
  return blocks;
}

/** The text of an OpenAI `content`; parts that are not text are refused. */
export function contentText(content: unknown, param: string): string {
  let text = "";
  for (const block of encodeContent(content, param)) {
    if (block.type !== "text") throw malformed("only text is possible here", param);
    text += block.text;
  }
  return text;
}

function encodePart(part: JsonObject, param: string): PartBlock | undefined {
  switch (part["type"]) {
    case "text":
    case "refusal": {
      const text = textOf(part["type"] === "text" ? part["text"] : part["refusal"]);
      return hasText(text) ? { type: "text", text, ...cacheMark(part) } : undefined;
    }
    case "image_url": {
      const image = part["image_url"];
      return {
        type: "image",
        source: sourceOf(textOf(isObject(image) ? image["url"] : image), `${param}.image_url.url`),
        ...cacheMark(part),
      };
    }
    case "file":
      return encodeFile(objectOf(part["file"]), part, `${param}.file`);
    case "input_audio":
      throw unsupported("this backend takes no audio", `${param}.input_audio`);
    default:
      throw unsupported(`this backend takes no content part of type ${JSON.stringify(part["type"] ?? null).slice(0, 40)}`, `${param}.type`);
  }
}

function encodeFile(file: JsonObject, part: JsonObject, param: string): DocumentBlock {
  const title = textOf(file["filename"]);
  const rest = { ...(title === "" ? {} : { title }), ...cacheMark(part) };
  if (typeof file["file_id"] === "string") return { type: "document", source: { type: "file", file_id: file["file_id"] }, ...rest };
  const source = sourceOf(textOf(file["file_data"]), `${param}.file_data`);
  if (source.type === "base64" && source.media_type === "text/plain") {
    const data = Buffer.from(source.data, "base64").toString("utf8");
    return { type: "document", source: { type: "text", media_type: "text/plain", data }, ...rest };
  }
  if (source.type === "base64" && source.media_type !== "application/pdf") {
    throw unsupported(`this backend takes PDF and plain text files, not ${source.media_type}`, `${param}.file_data`);
  }
  return { type: "document", source, ...rest };
}

function sourceOf(url: string, param: string): ImageSource {
  if (/^https?:\/\//i.test(url)) return { type: "url", url };
  const match = DATA_URL.exec(url);
  if (match === null) throw malformed("must be an http(s) URL or a base64 data: URL", param);
  return { type: "base64", media_type: match[1]!.toLowerCase(), data: url.slice(match[0].length) };
}

/** The caller's mistake, 400. */
export function malformed(message: string, param: string): SignalboxError {
  return new SignalboxError("REQUEST_MALFORMED", `${param}: ${message}`, { param });
}

/** What this provider cannot do at all, 400. */
export function unsupported(message: string, param: string): SignalboxError {
  return new SignalboxError("FEATURE_UNSUPPORTED", `${param}: ${message}`, { param });
}
