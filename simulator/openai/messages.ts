import type { PromptMeter } from "../engine/tokens.ts";
import { isGiven, isObject, type JsonObject, objectOf, stringOf } from "../http/json.ts";
import { typeProblem, valueProblem } from "./fields.ts";
import { invalid, type Problem } from "./problem.ts";

const ROLES = ["system", "assistant", "user", "function", "tool", "developer"];
const USER_PARTS = ["text", "image_url", "input_audio", "file"];
const ASSISTANT_PARTS = ["text", "refusal"];

/** What the messages say beside their tokens. */
export interface MessagesFacts {
  lastRole: string;
  lastText: string;
  lastUserText: string;
  images: number;
  mentionsJson: boolean;
  /** Whether text read now is part of the answer's seed. */
  seeding: boolean;
}

/** Checks the messages as OpenAI does and meters them. With `continued` the last one is a start to go on from and does not change the answer's seed. */
export function readMessages(messages: readonly unknown[], meter: PromptMeter, continued: boolean): MessagesFacts | Problem {
  const facts: MessagesFacts = { lastRole: "", lastText: "", lastUserText: "", images: 0, mentionsJson: false, seeding: true };
  if (messages.length === 0) {
    return invalid(
      "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
      "messages",
      "empty_array",
    );
  }
  let open: Set<string> | undefined;
  for (let index = 0; index < messages.length; index++) {
    const message = messages[index];
    const at = `messages[${index}]`;
    if (!isObject(message)) return typeProblem(at, "an object", message);
    const role = message["role"];
    if (typeof role !== "string") return missing(`${at}.role`);
    if (!ROLES.includes(role)) return valueProblem(`${at}.role`, role, ROLES);
    const answered = followCalls(open, role, message, index);
    if (answered && "status" in answered) return answered;
    open = answered?.open;
    facts.seeding = !(continued && index === messages.length - 1);
    const problem = readContent(message, role, at, meter, facts);
    if (problem) return problem;
  }
  return open && open.size > 0 ? unanswered(open, messages.length - 1) : facts;
}

/** Every call of an assistant must be answered by a tool message right behind it. */
function followCalls(
  open: Set<string> | undefined,
  role: string,
  message: JsonObject,
  index: number,
): { open: Set<string> | undefined } | Problem | undefined {
  if (role === "tool") {
    if (!open) {
      const text = "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
      return invalid(text, `messages.[${index}].role`, null);
    }
    if (typeof message["tool_call_id"] !== "string") return missing(`messages[${index}].tool_call_id`);
    open.delete(message["tool_call_id"]);
    return { open };
  }
  if (open && open.size > 0) return unanswered(open, index);
  if (role !== "assistant" || !Array.isArray(message["tool_calls"])) return undefined;
  const ids = new Set<string>();
  for (const call of message["tool_calls"]) ids.add(stringOf(objectOf(call)["id"]));
  return { open: ids };
}

function unanswered(open: ReadonlySet<string>, index: number): Problem {
  const text = `An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: ${[...open].join(", ")}`;
  return invalid(text, `messages.[${index}].role`, null);
}

function missing(param: string): Problem {
  return invalid(`Missing required parameter: '${param}'.`, param, "missing_required_parameter");
}

function readContent(message: JsonObject, role: string, at: string, meter: PromptMeter, facts: MessagesFacts): Problem | undefined {
  meter.message();
  facts.lastRole = role;
  facts.lastText = "";
  const content = message["content"];
  const calls = message["tool_calls"];
  if (typeof content === "string") noteText(content, role, meter, facts);
  else if (Array.isArray(content)) {
    const problem = readParts(content, role, at, meter, facts);
    if (problem) return problem;
  } else if (content === null || content === undefined) {
    const excused =
      role === "assistant" &&
      (Array.isArray(calls) || message["function_call"] !== undefined || isGiven(message["refusal"]) || isGiven(message["audio"]));
    if (!excused) {
      return content === null || role === "assistant"
        ? invalid(`Invalid value for 'content': expected a string, got null.`, `${at}.content`, null)
        : missing(`${at}.content`);
    }
  } else return typeProblem(`${at}.content`, "one of a string or array of objects", content);
  if (calls === undefined || calls === null) return undefined;
  if (!Array.isArray(calls)) return typeProblem(`${at}.tool_calls`, "an array of objects", calls);
  for (let index = 0; index < calls.length; index++) {
    const call = objectOf(calls[index]);
    const target = objectOf(call["function"] ?? call["custom"]);
    if (typeof call["id"] !== "string") return missing(`${at}.tool_calls[${index}].id`);
    if (typeof call["type"] !== "string") return missing(`${at}.tool_calls[${index}].type`);
    if (call["type"] === "function" && typeof target["arguments"] !== "string")
      return missing(`${at}.tool_calls[${index}].function.arguments`);
    meter.addUnseeded(`${stringOf(target["name"])}${stringOf(target["arguments"])}`);
  }
  return undefined;
}

function readParts(parts: readonly unknown[], role: string, at: string, meter: PromptMeter, facts: MessagesFacts): Problem | undefined {
  const allowed = role === "assistant" ? ASSISTANT_PARTS : role === "user" ? USER_PARTS : ["text"];
  for (let index = 0; index < parts.length; index++) {
    const part = parts[index];
    const where = `${at}.content[${index}]`;
    if (!isObject(part)) return typeProblem(where, "an object", part);
    const type = part["type"];
    if (typeof type !== "string") return missing(`${where}.type`);
    if (!allowed.includes(type)) return valueProblem(`${where}.type`, type, allowed);
    if (type === "text") {
      if (typeof part["text"] !== "string")
        return part["text"] === undefined ? missing(`${where}.text`) : typeProblem(`${where}.text`, "a string", part["text"]);
      noteText(part["text"], role, meter, facts);
    } else if (type === "image_url") {
      const url = objectOf(part["image_url"])["url"];
      if (!isObject(part["image_url"])) return typeProblem(`${where}.image_url`, "an object", part["image_url"]);
      if (typeof url !== "string") return missing(`${where}.image_url.url`);
      if (!/^(https?:|data:image\/(png|jpe?g|gif|webp);base64,)/.test(url)) {
        return invalid(
          "Invalid image URL: expected an http(s) URL or a base64-encoded data URL with an image MIME type.",
          `${where}.image_url.url`,
          "invalid_image_url",
        );
      }
      facts.images++;
      meter.image(url);
    } else meter.addUnseeded(JSON.stringify(part[type] ?? ""));
  }
  return undefined;
}

function noteText(text: string, role: string, meter: PromptMeter, facts: MessagesFacts): void {
  if (facts.seeding) meter.add(text);
  else meter.addUnseeded(text);
  facts.lastText += text;
  if (role === "user") facts.lastUserText = text;
  if (!facts.mentionsJson && /json/i.test(text)) facts.mentionsJson = true;
}
