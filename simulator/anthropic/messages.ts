import { TOKENS_PER_IMAGE, type PromptMeter } from "../engine/tokens.ts";
import { isObject, type JsonObject, objectOf, stringOf } from "../http/json.ts";
import type { SimBackendProfile } from "../profile.ts";
import { type AnthropicProblem, refused } from "./problem.ts";

/** What the messages say beside their tokens. */
export interface AnthropicFacts {
  lastUserText: string;
  /** Whether the last turn is the user's own words, not a tool's result. */
  endsWithUser: boolean;
  /** Start of the answer, when the last message is the assistant's. */
  prefill: string | undefined;
}

const BLOCK_TYPES = [
  "text",
  "image",
  "document",
  "tool_use",
  "tool_result",
  "thinking",
  "redacted_thinking",
  "search_result",
  "server_tool_use",
];

interface Walk {
  readonly meter: PromptMeter;
  readonly mark: (holder: JsonObject) => void;
  readonly facts: AnthropicFacts;
  readonly vision: boolean;
  seeding: boolean;
}

/** Checks the messages by Anthropic's rules and meters them. */
export function readAnthropicMessages(
  messages: readonly unknown[],
  meter: PromptMeter,
  mark: (holder: JsonObject) => void,
  profile: SimBackendProfile,
): AnthropicFacts | AnthropicProblem {
  if (messages.length === 0) return refused("messages: at least one message is required");
  const facts: AnthropicFacts = { lastUserText: "", endsWithUser: true, prefill: undefined };
  const walk: Walk = { meter, mark, facts, vision: profile.capabilities.includes("vision"), seeding: true };
  let open: readonly string[] = [];
  for (const [index, message] of messages.entries()) {
    if (!isObject(message)) return refused(`messages.${index}: Input should be an object`);
    const role = message["role"];
    if (role === undefined) return refused(`messages.${index}.role: Field required`);
    if (role !== "user" && role !== "assistant" && role !== "system")
      return refused(`messages.${index}.role: Input should be 'user', 'assistant' or 'system'`);
    if (index === 0 && role !== "user") return refused('messages: first message must use the "user" role');
    const blocks = blocksOf(message["content"], index);
    if ("status" in blocks) return blocks;
    const problem = checkToolPairs(blocks.blocks, open, index);
    if (problem) return problem;
    open = role === "assistant" ? idsOf(blocks.blocks, "tool_use", "id") : [];
    const isLast = index === messages.length - 1;
    walk.seeding = !(isLast && role === "assistant");
    const bad = readBlocks(blocks.blocks, role, index, isLast, walk);
    if (bad) return bad;
    if (isLast && role === "assistant") {
      const ending = checkPrefill(blocks.blocks, profile, open, index);
      if (typeof ending !== "string") return ending;
      facts.prefill = ending;
    }
  }
  return facts;
}

function blocksOf(content: unknown, index: number): { readonly blocks: readonly JsonObject[] } | AnthropicProblem {
  if (content === undefined) return refused(`messages.${index}.content: Field required`);
  if (typeof content === "string")
    return content === ""
      ? refused(`messages.${index}: user messages must have non-empty content`)
      : { blocks: [{ type: "text", text: content }] };
  if (!Array.isArray(content)) return refused(`messages.${index}.content: Input should be a valid list`);
  if (content.length === 0)
    return refused(`messages.${index}: all messages must have non-empty content except for the optional final assistant message`);
  for (const [at, block] of content.entries()) {
    if (!isObject(block)) return refused(`messages.${index}.content.${at}: Input should be an object`);
    if (block["type"] === undefined) return refused(`messages.${index}.content.${at}.type: Field required`);
    if (!BLOCK_TYPES.includes(stringOf(block["type"]))) {
      const tags = BLOCK_TYPES.map((type) => `'${type}'`).join(", ");
      return refused(
        `messages.${index}.content.${at}: Input tag '${stringOf(block["type"])}' found using 'type' does not match any of the expected tags: ${tags}`,
      );
    }
  }
  return { blocks: content as JsonObject[] };
}

function idsOf(blocks: readonly JsonObject[], type: string, field: string): readonly string[] {
  return blocks.filter((block) => block["type"] === type).map((block) => stringOf(block[field]));
}

function checkToolPairs(blocks: readonly JsonObject[], open: readonly string[], index: number): AnthropicProblem | undefined {
  const answered = idsOf(blocks, "tool_result", "tool_use_id");
  const missing = open.filter((id) => !answered.includes(id));
  if (missing.length > 0) {
    return refused(
      `messages.${index - 1}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${missing.join(", ")}. Each \`tool_use\` block must have a corresponding \`tool_result\` block in the next message.`,
    );
  }
  const stray = blocks.findIndex((block) => block["type"] === "tool_result" && !open.includes(stringOf(block["tool_use_id"])));
  if (stray >= 0) {
    return refused(
      `messages.${index}.content.${stray}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${stringOf(blocks[stray]!["tool_use_id"])}. Each \`tool_result\` block must have a corresponding \`tool_use\` block in the previous message.`,
    );
  }
  const firstOther = blocks.findIndex((block) => block["type"] !== "tool_result");
  if (answered.length > 0 && firstOther >= 0 && firstOther < answered.length) {
    return refused(
      `messages.${index}: \`tool_result\` blocks must come before any other content in a message that answers \`tool_use\` blocks.`,
    );
  }
  return undefined;
}

function checkPrefill(
  blocks: readonly JsonObject[],
  profile: SimBackendProfile,
  open: readonly string[],
  index: number,
): string | AnthropicProblem {
  if (open.length > 0) {
    return refused(
      `messages.${index}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${open.join(", ")}. Each \`tool_use\` block must have a corresponding \`tool_result\` block in the next message.`,
    );
  }
  if (profile.refusesPrefill)
    return refused("This model does not support assistant message prefill. The conversation must end with a user message.");
  const text = blocks.map((block) => stringOf(block["text"])).join("");
  return text.trimEnd() === text ? text : refused("messages: final assistant content cannot end with trailing whitespace");
}

function readBlocks(blocks: readonly JsonObject[], role: string, index: number, isLast: boolean, walk: Walk): AnthropicProblem | undefined {
  const { meter, facts } = walk;
  meter.message();
  for (const [at, block] of blocks.entries()) {
    const where = `messages.${index}.content.${at}`;
    switch (block["type"]) {
      case "text":
        if (typeof block["text"] !== "string") return refused(`${where}.text.text: Field required`);
        if (block["text"] === "") return refused("messages: text content blocks must be non-empty");
        if (walk.seeding) meter.add(block["text"]);
        else meter.addUnseeded(block["text"]);
        if (role === "user") facts.lastUserText = block["text"];
        if (isLast) facts.endsWithUser = role === "user";
        break;
      case "tool_use":
        if (role !== "assistant") return refused(`${where}: \`tool_use\` blocks can only be in \`assistant\` messages`);
        if (typeof block["id"] !== "string" || !/^[a-zA-Z0-9_-]+$/.test(block["id"]))
          return refused(`${where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'`);
        if (!isObject(block["input"])) return refused(`${where}.tool_use.input: Input should be a valid dictionary`);
        meter.addUnseeded(`${stringOf(block["name"])}${JSON.stringify(block["input"])}`);
        break;
      case "tool_result":
        if (role !== "user") return refused(`${where}: \`tool_result\` blocks can only be in \`user\` messages`);
        if (typeof block["tool_use_id"] !== "string") return refused(`${where}.tool_result.tool_use_id: Field required`);
        if (isLast) facts.endsWithUser = false;
        meterResult(block["content"], walk);
        break;
      case "image": {
        const problem = readImage(block, where, walk);
        if (problem) return problem;
        if (isLast) facts.endsWithUser = role === "user";
        break;
      }
      case "thinking":
        if (typeof block["signature"] !== "string") return refused(`${where}.thinking.signature: Field required`);
        break;
      default:
        meter.addUnseeded(JSON.stringify(block["source"] ?? ""));
    }
    walk.mark(block);
  }
  return undefined;
}

function meterResult(content: unknown, walk: Walk): void {
  if (typeof content === "string") walk.meter.add(content);
  else if (Array.isArray(content)) for (const part of content) walk.meter.add(stringOf(objectOf(part)["text"]));
}

function readImage(block: JsonObject, where: string, walk: Walk): AnthropicProblem | undefined {
  if (!walk.vision) return refused(`${where}.image: This model does not support image input.`);
  const source = objectOf(block["source"]);
  if (source["type"] === "base64") {
    if (!/^image\/(jpeg|png|gif|webp)$/.test(stringOf(source["media_type"]))) {
      return refused(`${where}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'`);
    }
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(stringOf(source["data"]))) return refused(`${where}.image.source.base64: invalid base64 data`);
  } else if (source["type"] === "url") {
    if (!/^https?:\/\//.test(stringOf(source["url"]))) return refused(`${where}.image.source.url.url: Only HTTPS URLs are supported`);
  } else
    return refused(
      `${where}.image.source: Input tag '${stringOf(source["type"])}' found using 'type' does not match any of the expected tags: 'base64', 'url', 'file'`,
    );
  walk.meter.image(stringOf(source["data"]) || stringOf(source["url"]));
  // An image of Anthropic's counts about twelve low-detail tiles.
  walk.meter.tokens += 11 * TOKENS_PER_IMAGE;
  return undefined;
}
