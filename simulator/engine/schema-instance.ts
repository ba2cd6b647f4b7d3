type Schema = Readonly<Record<string, unknown>>;

/** Nesting after which only required, non-recursive parts are filled: recursive schemas stay finite. */
const DEPTH_MAX = 12;

const FORMATS: Readonly<Record<string, string>> = {
  "date-time": "2026-11-21T10:00:00Z",
  date: "2026-11-21",
  time: "10:00:00Z",
  duration: "PT5M",
  email: "signal@example.com",
  hostname: "example.com",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
  uuid: "0197a3c0-5b1e-7c2a-9d3e-4f5061728394",
  uri: "https://example.com/signal",
  "uri-reference": "/signal",
};

/**
 * The smallest value that satisfies a JSON schema of the kind structured outputs allow: objects with their required
 * properties, first enum value or branch, `$ref` inside the document, numeric and length bounds. `pattern` is ignored.
 */
export function instanceOf(schema: unknown, word = "signal"): unknown {
  return build(asSchema(schema), asSchema(schema), word, 0);
}

function asSchema(value: unknown): Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Schema) : {};
}

function build(schema: Schema, root: Schema, word: string, depth: number): unknown {
  if (typeof schema["$ref"] === "string") return depth > DEPTH_MAX ? null : build(resolve(schema["$ref"], root), root, word, depth + 1);
  if ("const" in schema) return schema["const"];
  if (Array.isArray(schema["enum"])) return schema["enum"][0];
  if ("default" in schema && depth > 0) return schema["default"];
  if (Array.isArray(schema["allOf"])) return build(merge(schema, root), root, word, depth + 1);
  const branches = schema["anyOf"] ?? schema["oneOf"];
  if (Array.isArray(branches)) return build(asSchema(pickBranch(branches, depth)), root, word, depth + 1);
  switch (typeOf(schema, depth)) {
    case "object":
      return buildObject(schema, root, word, depth);
    case "array":
      return Array.from({ length: numberOf(schema, "minItems", 0) }, () => build(asSchema(schema["items"]), root, word, depth + 1));
    case "integer":
      return Math.ceil(lowestNumber(schema, 1));
    case "number":
      return lowestNumber(schema, 0.5);
    case "boolean":
      return true;
    case "null":
      return null;
    default:
      return buildString(schema, word);
  }
}

function buildObject(schema: Schema, root: Schema, word: string, depth: number): unknown {
  const properties = asSchema(schema["properties"]);
  const required = Array.isArray(schema["required"]) ? (schema["required"] as string[]) : depth === 0 ? Object.keys(properties) : [];
  const value: Record<string, unknown> = {};
  for (const name of required) {
    const child = build(asSchema(properties[name]), root, word, depth + 1);
    Object.defineProperty(value, name, { value: child, enumerable: true, writable: true, configurable: true });
  }
  return value;
}

function buildString(schema: Schema, word: string): string {
  const format = FORMATS[String(schema["format"])];
  if (format !== undefined) return format;
  const least = numberOf(schema, "minLength", 0);
  const most = numberOf(schema, "maxLength", Infinity);
  let text = word;
  while (text.length < least) text += ` ${word}`;
  return text.slice(0, Math.max(least, Math.min(most, text.length)));
}

function typeOf(schema: Schema, depth: number): string {
  const type = schema["type"];
  if (Array.isArray(type)) return depth > DEPTH_MAX && type.includes("null") ? "null" : String(type[0]);
  if (typeof type === "string") return type;
  if ("properties" in schema) return "object";
  return "items" in schema ? "array" : "string";
}

/** Deep down, the branch that ends the recursion; else the first. */
function pickBranch(branches: readonly unknown[], depth: number): unknown {
  if (depth <= DEPTH_MAX / 2) return branches[0];
  return (
    branches.find((branch) => asSchema(branch)["type"] === "null") ??
    branches.find((branch) => !("$ref" in asSchema(branch))) ??
    branches[0]
  );
}

function merge(schema: Schema, root: Schema): Schema {
  const merged: Record<string, unknown> = { ...schema, allOf: undefined };
  for (const part of schema["allOf"] as unknown[]) {
    const plain = asSchema(part);
    const flat = typeof plain["$ref"] === "string" ? resolve(plain["$ref"], root) : plain;
    const required = [...((merged["required"] as string[] | undefined) ?? []), ...((flat["required"] as string[] | undefined) ?? [])];
    Object.assign(merged, flat, { properties: { ...asSchema(merged["properties"]), ...asSchema(flat["properties"]) }, required });
  }
  delete merged["allOf"];
  return merged;
}

function resolve(reference: string, root: Schema): Schema {
  let at: unknown = root;
  for (const step of reference.replace(/^#\/?/, "").split("/").filter(Boolean)) {
    at = asSchema(at)[decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")];
  }
  return asSchema(at);
}

function numberOf(schema: Schema, name: string, otherwise: number): number {
  const value = schema[name];
  return typeof value === "number" ? value : otherwise;
}

function lowestNumber(schema: Schema, otherwise: number): number {
  const step = numberOf(schema, "multipleOf", 0);
  const least = numberOf(schema, "minimum", numberOf(schema, "exclusiveMinimum", -Infinity) + (step || 1));
  const most = numberOf(schema, "maximum", numberOf(schema, "exclusiveMaximum", Infinity) - (step || 1));
  const value = least > -Infinity ? least : Math.min(otherwise, most);
  return step > 0 ? Math.ceil(value / step) * step : value;
}
