/** Steps (a schema applied to a value) of one check: an answer of 256 KiB against a schema of a hundred members stays below; what needs more is not judged. */
const STEPS_MAX = 100_000;

/** Deepest nesting followed, of values and of references; JSON schemas of real requests stay below 30. */
const DEPTH_MAX = 64;

/** Ends a check that would cost too much, or that meets a schema it cannot follow. */
class GivenUp extends Error {}

type Loose = Readonly<Record<string, unknown>>;

/**
 * Whether a value keeps to a JSON schema; undefined where that cannot be said within bounds. Of JSON Schema 2020-12 it knows types,
 * enumerations, members, items, lengths, bounds, combinations and local references; formats and patterns are not looked at (a pattern
 * of a caller's could take for ever), and unknown keywords allow everything, as the standard has it.
 */
export function keepsToSchema(value: unknown, schema: unknown): boolean | undefined {
  try {
    return new Check(schema).holds(value, schema, 0);
  } catch (error) {
    if (error instanceof GivenUp) return undefined;
    throw error;
  }
}

class Check {
  readonly #root: unknown;
  #steps = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  holds(value: unknown, schema: unknown, depth: number): boolean {
    if (++this.#steps > STEPS_MAX || depth > DEPTH_MAX) throw new GivenUp();
    if (typeof schema === "boolean") return schema;
    if (!isObject(schema)) throw new GivenUp();
    if (typeof schema["$ref"] === "string" && !this.holds(value, this.#resolve(schema["$ref"]), depth + 1)) return false;
    return (
      hasType(value, schema["type"]) &&
      isAmong(value, schema) &&
      isWithin(value, schema) &&
      this.#combined(value, schema, depth) &&
      (!Array.isArray(value) || this.#items(value, schema, depth)) &&
      (!isObject(value) || this.#members(value, schema, depth))
    );
  }

  #resolve(reference: string): unknown {
    if (reference !== "#" && !reference.startsWith("#/")) throw new GivenUp();
    let at = this.#root;
    for (const part of reference.slice(2).split("/")) {
      if (part === "" && reference.length <= 2) break;
      const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
      at = isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined;
    }
    if (at === undefined) throw new GivenUp();
    return at;
  }

  #combined(value: unknown, schema: Loose, depth: number): boolean {
    const each = (name: string): readonly unknown[] | undefined => (Array.isArray(schema[name]) ? (schema[name] as unknown[]) : undefined);
    const holds = (one: unknown): boolean => this.holds(value, one, depth + 1);
    if (each("allOf")?.every(holds) === false || each("anyOf")?.some(holds) === false) return false;
    const oneOf = each("oneOf");
    if (oneOf !== undefined && oneOf.filter(holds).length !== 1) return false;
    if (schema["not"] !== undefined && holds(schema["not"])) return false;
    if (schema["if"] === undefined) return true;
    const branch = holds(schema["if"]) ? schema["then"] : schema["else"];
    return branch === undefined || holds(branch);
  }

  #items(value: readonly unknown[], schema: Loose, depth: number): boolean {
    if (value.length < numberOr(schema["minItems"], 0) || value.length > numberOr(schema["maxItems"], Infinity)) return false;
    const prefix = Array.isArray(schema["prefixItems"]) ? (schema["prefixItems"] as unknown[]) : [];
    const rest = schema["items"];
    for (const [index, item] of value.entries()) {
      const one = index < prefix.length ? prefix[index] : rest;
      if (one !== undefined && !this.holds(item, one, depth + 1)) return false;
    }
    return true;
  }

  #members(value: Loose, schema: Loose, depth: number): boolean {
    const names = Object.keys(value);
    if (names.length < numberOr(schema["minProperties"], 0) || names.length > numberOr(schema["maxProperties"], Infinity)) return false;
    const required = schema["required"];
    if (Array.isArray(required) && !required.every((name) => typeof name === "string" && Object.hasOwn(value, name))) return false;
    const known = isObject(schema["properties"]) ? schema["properties"] : {};
    // Which members a pattern covers is not known: others than the named ones are then not judged.
    const others = schema["patternProperties"] === undefined ? schema["additionalProperties"] : undefined;
    for (const name of names) {
      const one = Object.hasOwn(known, name) ? known[name] : others;
      if (one !== undefined && !this.holds(value[name], one, depth + 1)) return false;
    }
    return true;
  }
}

function hasType(value: unknown, type: unknown): boolean {
  if (type === undefined) return true;
  const types = Array.isArray(type) ? (type as unknown[]) : [type];
  return types.some((one) => {
    switch (one) {
      case "null":
        return value === null;
      case "array":
        return Array.isArray(value);
      case "object":
        return isObject(value);
      case "integer":
        return typeof value === "number" && Number.isInteger(value);
      default:
        return typeof value === one;
    }
  });
}

function isAmong(value: unknown, schema: Loose): boolean {
  if ("const" in schema && !isSame(value, schema["const"])) return false;
  return !Array.isArray(schema["enum"]) || schema["enum"].some((one) => isSame(value, one));
}

function isWithin(value: unknown, schema: Loose): boolean {
  if (typeof value === "string") {
    if (schema["minLength"] === undefined && schema["maxLength"] === undefined) return true;
    const length = characters(value);
    return length >= numberOr(schema["minLength"], 0) && length <= numberOr(schema["maxLength"], Infinity);
  }
  if (typeof value !== "number") return true;
  if (value < numberOr(schema["minimum"], -Infinity) || value > numberOr(schema["maximum"], Infinity)) return false;
  return value > numberOr(schema["exclusiveMinimum"], -Infinity) && value < numberOr(schema["exclusiveMaximum"], Infinity);
}

/** Length in code points, as JSON Schema counts it. */
function characters(text: string): number {
  let count = 0;
  for (let at = 0; at < text.length; count++) at += text.codePointAt(at)! > 0xffff ? 2 : 1;
  return count;
}

/** Whether two JSON values are the same, the order of members aside. */
export function isSame(a: unknown, b: unknown): boolean {
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, index) => isSame(item, b[index]));
  if (!isObject(a)) return a === b;
  if (!isObject(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]));
}

function numberOr(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

function isObject(value: unknown): value is Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
