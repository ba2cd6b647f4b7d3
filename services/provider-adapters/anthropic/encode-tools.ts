import { isObject, objectOf, textOf, type AnthropicTool, type JsonObject, type MessagesRequest, type ToolChoice } from "./api.ts";
import { cacheMark, malformed, unsupported } from "./encode-content.ts";
import type { ModelTraits } from "./model-traits.ts";
import type { Warnings } from "./warnings.ts";

type ToolFields = Pick<MessagesRequest, "tools" | "tool_choice">;

/**
 * Tools and the choice among them. `usedNames` are tools the history calls: where none are declared, they are declared
 * bare and forbidden, because the API refuses a history whose tools it does not know.
 */
export function encodeTools(body: JsonObject, usedNames: ReadonlySet<string>, traits: ModelTraits, warnings: Warnings): ToolFields {
  const declared = declaredTools(body, traits, warnings);
  if (declared.length === 0) {
    if (usedNames.size === 0) return {};
    return { tools: [...usedNames].map((name) => ({ name, input_schema: EMPTY_SCHEMA })), tool_choice: { type: "none" } };
  }
  const { tools, choice } = choose(body["tool_choice"] ?? legacyChoice(body["function_call"]), declared);
  if (body["parallel_tool_calls"] !== false || choice?.type === "none")
    return choice === undefined ? { tools } : { tools, tool_choice: choice };
  return { tools, tool_choice: { ...(choice ?? { type: "auto" }), disable_parallel_tool_use: true } };
}

const EMPTY_SCHEMA: JsonObject = { type: "object", properties: {} };

function declaredTools(body: JsonObject, traits: ModelTraits, warnings: Warnings): AnthropicTool[] {
  if (Array.isArray(body["tools"])) {
    return body["tools"].map((item, index) => {
      const tool = objectOf(item);
      if (tool["type"] !== "function") throw unsupported("this backend takes function tools only", `tools[${index}].type`);
      return encodeTool(objectOf(tool["function"]), tool, `tools[${index}].function`, traits, warnings);
    });
  }
  const functions = Array.isArray(body["functions"]) ? body["functions"] : [];
  return functions.map((item, index) => encodeTool(objectOf(item), {}, `functions[${index}]`, traits, warnings));
}

function encodeTool(target: JsonObject, tool: JsonObject, param: string, traits: ModelTraits, warnings: Warnings): AnthropicTool {
  const name = textOf(target["name"]);
  if (name === "") throw malformed("is missing", `${param}.name`);
  const parameters = objectOf(target["parameters"]);
  const description = textOf(target["description"]);
  const isStrict = target["strict"] === true;
  if (isStrict && !traits.strictTools) warnings.add("tools.strict", "dropped, the model does not know it");
  return {
    name,
    ...(description === "" ? {} : { description }),
    input_schema: Object.keys(parameters).length === 0 ? EMPTY_SCHEMA : { type: "object", ...parameters },
    ...(isStrict && traits.strictTools ? { strict: true } : {}),
    ...cacheMark(tool),
  };
}

interface Chosen {
  readonly tools: readonly AnthropicTool[];
  readonly choice?: ToolChoice;
}

function choose(choice: unknown, tools: readonly AnthropicTool[]): Chosen {
  if (choice === undefined || choice === null) return { tools };
  if (choice === "auto" || choice === "none") return { tools, choice: { type: choice } };
  if (choice === "required") return { tools, choice: { type: "any" } };
  if (!isObject(choice)) throw malformed("must be auto, none, required or a named tool", "tool_choice");
  switch (choice["type"]) {
    case "function": {
      const name = textOf(objectOf(choice["function"])["name"]);
      if (!tools.some((tool) => tool.name === name)) throw malformed("names no declared tool", "tool_choice.function.name");
      return { tools, choice: { type: "tool", name } };
    }
    case "allowed_tools":
      return chooseAllowed(objectOf(choice["allowed_tools"]), tools);
    default:
      throw unsupported("this backend takes function tools only", "tool_choice.type");
  }
}

/** The API has no allowed list: the others are left out. */
function chooseAllowed(allowed: JsonObject, tools: readonly AnthropicTool[]): Chosen {
  const list = Array.isArray(allowed["tools"]) ? allowed["tools"] : [];
  const names = new Set(list.map((item) => textOf(objectOf(objectOf(item)["function"])["name"])));
  const kept = tools.filter((tool) => names.has(tool.name));
  if (kept.length === 0) throw malformed("names no declared tool", "tool_choice.allowed_tools.tools");
  return { tools: kept, choice: { type: allowed["mode"] === "required" ? "any" : "auto" } };
}

function legacyChoice(call: unknown): unknown {
  return isObject(call) ? { type: "function", function: call } : call;
}
