/** A mapping of a file that may be wrong anywhere: the checks look at it before, and whether or not, the schema agrees. */
export type Tree = Readonly<Record<string, unknown>>;

const NOTHING: Tree = {};

/** The mapping at a path, or an empty one. */
export function mapAt(tree: unknown, ...path: readonly string[]): Tree {
  let value = tree;
  for (const part of path) value = isMapping(value) && Object.hasOwn(value, part) ? value[part] : undefined;
  return isMapping(value) ? value : NOTHING;
}

/** The list at a path, or an empty one. */
export function listAt(tree: unknown, ...path: readonly string[]): readonly unknown[] {
  const last = path.at(-1) ?? "";
  const parent = mapAt(tree, ...path.slice(0, -1));
  const value = Object.hasOwn(parent, last) ? parent[last] : undefined;
  return Array.isArray(value) ? value : [];
}

/** The text at a path, or undefined. */
export function textAt(tree: unknown, ...path: readonly string[]): string | undefined {
  const last = path.at(-1) ?? "";
  const parent = mapAt(tree, ...path.slice(0, -1));
  const value = Object.hasOwn(parent, last) ? parent[last] : undefined;
  return typeof value === "string" ? value : undefined;
}

function isMapping(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
