import { type Fields, fieldValue, findField, scanElements, scanTopLevel, spliceTopLevel } from "#libs/json-bytes/index.ts";
import { internalError } from "../failures.ts";

/** A request body and the extents of its members. */
export interface ChangedBody {
  readonly body: Uint8Array;
  readonly fields: number[];
}

/** Names of one and the same limit: who sets one of them unsets the other. */
const SAME_LIMIT: Readonly<Record<string, string>> = {
  max_tokens: "max_completion_tokens",
  max_completion_tokens: "max_tokens",
};

const QUOTE = 0x22;
const OPEN_BRACKET = 0x5b;
const COMMA = Buffer.from(",");
const BLANK_LINE = "\n\n";

/**
 * Applies an arm's change (decision `request_change`) to an OpenAI chat body: `system` stands in place of the system prompt,
 * `system_append` behind it, every other member is set, or removed where it is null. Only the bytes concerned change.
 * Throws INTERNAL where body or change cannot be read: both were checked long before.
 */
export function changeRequest(body: Uint8Array, fields: Fields, change: Uint8Array): ChangedBody {
  const members = scanTopLevel(change);
  const known = fields.length > 0 ? fields : scanTopLevel(body);
  if (members === undefined || known === undefined) throw internalError(new Error("a request cannot be changed as its arm wants"));
  const edits = new Map<string, Uint8Array | null>();
  for (let at = 0; at < members.length; at += 4) {
    const name = Buffer.from(change.subarray(members[at]!, members[at + 1]!)).toString("latin1");
    if (name === "system" || name === "system_append") continue;
    const value = change.subarray(members[at + 2]!, members[at + 3]!);
    edits.set(name, Buffer.from(value).toString("latin1") === "null" ? null : value);
    const other = SAME_LIMIT[name];
    if (other !== undefined && !edits.has(other)) edits.set(other, null);
  }
  const system = fieldValue(change, members, "system");
  const append = fieldValue(change, members, "system_append");
  if (system !== undefined || append !== undefined) edits.set("messages", changeMessages(body, known, system, append));
  const changed = spliceTopLevel(body, known, edits);
  return { body: changed, fields: Array.from(scanTopLevel(changed) ?? []) };
}

/** The messages with another system prompt. `system` and `append` are JSON strings. */
function changeMessages(body: Uint8Array, fields: Fields, system: Uint8Array | undefined, append: Uint8Array | undefined): Uint8Array {
  const at = findField(body, fields, "messages");
  const [from, to] = [fields[at + 2] ?? 0, fields[at + 3] ?? 0];
  const elements = at < 0 ? undefined : scanElements(body, from, to);
  if (elements === undefined || elements.length === 0) throw internalError(new Error("a request without messages cannot be changed"));
  const messages: Uint8Array[] = [];
  for (let index = 0; index < elements.length; index += 2) messages.push(body.subarray(elements[index]!, elements[index + 1]!));
  let leading = 0;
  while (leading < messages.length && roleOf(messages[leading]!) !== undefined) leading++;
  const role = (messages[0] && roleOf(messages[0])) ?? "system";
  const own = system === undefined ? messages.slice(0, leading) : [messageOf(role, system)];
  if (append !== undefined) {
    const last = own.pop();
    own.push(...(last === undefined ? [messageOf(role, append)] : appended(last, role, append)));
  }
  return arrayOf([...own, ...messages.slice(leading)]);
}

/** `system` or `developer`; undefined = another role. */
function roleOf(message: Uint8Array): "system" | "developer" | undefined {
  const fields = scanTopLevel(message);
  const role = fields && fieldValue(message, fields, "role");
  const text = role && Buffer.from(role).toString("latin1");
  if (text === '"system"') return "system";
  return text === '"developer"' ? "developer" : undefined;
}

/** A system message with more at its end; where its content is not one text, another message behind it. */
function appended(message: Uint8Array, role: "system" | "developer", append: Uint8Array): readonly Uint8Array[] {
  const fields = scanTopLevel(message);
  const content = fields && fieldValue(message, fields, "content");
  if (content?.[0] !== QUOTE) return [message, messageOf(role, append)];
  const gap = Buffer.from(JSON.stringify(BLANK_LINE)).subarray(1, -1);
  const longer = Buffer.concat([content.subarray(0, -1), gap, append.subarray(1)]);
  return [spliceTopLevel(message, fields!, new Map([["content", longer]]))];
}

function messageOf(role: string, content: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`{"role":"${role}","content":`), content, Buffer.from("}")]);
}

function arrayOf(items: readonly Uint8Array[]): Uint8Array {
  const pieces: Uint8Array[] = [Buffer.of(OPEN_BRACKET)];
  for (const [index, item] of items.entries()) pieces.push(...(index === 0 ? [item] : [COMMA, item]));
  pieces.push(Buffer.from("]"));
  return Buffer.concat(pieces);
}
