import { isObject, type JsonObject } from "./api.ts";

/** Deepest schema followed; a deeper one goes as it is. */
const DEPTH_MAX = 32;

/** Keywords that structured outputs refuse; what they say moves into the description, where the model reads it. */
const UNSUPPORTED = new Set([
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "maxItems",
  "uniqueItems",
  "minProperties",
  "maxProperties",
]);

/** Keywords whose members are schemas by name. */
const SCHEMA_MAPS = new Set(["properties", "$defs", "definitions"]);

/** Keywords that hold a schema or a list of them. */
const SCHEMAS = new Set(["items", "anyOf", "allOf", "oneOf", "prefixItems"]);

/**
 * The schema as `output_config.format` takes it: objects are closed, refused keywords become words of the description.
 * Loosens and never tightens what is generated, but for the closed objects, which OpenAI's strict mode wants as well.
 */
export function structuredSchema(schema: JsonObject, depth = 0): JsonObject {
  if (depth > DEPTH_MAX) return schema;
  const result: Record<string, unknown> = {};
  const notes: string[] = [];
  for (const [key, value] of Object.entries(schema)) {
    if (UNSUPPORTED.has(key) || (key === "minItems" && typeof value === "number" && value > 1))
      notes.push(`${key}: ${JSON.stringify(value)}`);
    else if (SCHEMA_MAPS.has(key) && isObject(value)) result[key] = mapValues(value, depth);
    else if (SCHEMAS.has(key)) result[key] = Array.isArray(value) ? value.map((item) => nested(item, depth)) : nested(value, depth);
    else result[key] = value;
  }
  if (schema["type"] === "object" || isObject(schema["properties"])) result["additionalProperties"] = false;
  if (notes.length > 0) {
    const description = typeof schema["description"] === "string" ? `${schema["description"]}\n` : "";
    result["description"] = `${description}{${notes.join(", ")}}`;
  }
  return result;
}

function mapValues(schemas: JsonObject, depth: number): JsonObject {
  return Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, nested(schema, depth)]));
}

function nested(schema: unknown, depth: number): unknown {
  return isObject(schema) ? structuredSchema(schema, depth + 1) : schema;
}
