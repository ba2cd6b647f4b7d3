/** Where a value stands in the document: keys and list positions from the root. */
export type ConfigPath = readonly (string | number)[];

/** One thing wrong with a configuration: where it is, what it is and what to do. */
export interface ConfigProblem {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
  /** `backends.gpu-a.url`, `rules[0].when`; `(document)` for the text as a whole. */
  readonly path: string;
  /** What is wrong and what to do, one line. Never a secret's value. */
  readonly message: string;
}

/** A problem before its line is known. */
export interface Finding {
  readonly path: ConfigPath;
  readonly message: string;
  /** Whether to point at the key or at its value; default value. */
  readonly at?: "key" | "value";
  /** Offset in the text, where the parser knows it better than the path. */
  readonly offset?: number;
}

/** Takes findings as checks make them. */
export type Report = (path: ConfigPath, message: string, at?: "key" | "value") => void;

/** More problems than this help nobody: a broken file of thousands of lines would fill the terminal. */
export const PROBLEMS_MAX = 100;

/** `backends.gpu-a.labels`, `rules[2].when`. */
export function pathText(path: ConfigPath): string {
  if (path.length === 0) return "(document)";
  let text = "";
  for (const part of path) text += typeof part === "number" ? `[${part}]` : text === "" ? part : `.${part}`;
  return text === "" ? '""' : clip(text, PATH_SHOWN_MAX);
}

/** `file:line:column: path: what, what to do`. */
export function formatProblem(problem: ConfigProblem): string {
  return `${problem.file}:${problem.line}:${problem.column}: ${problem.path}: ${problem.message}`;
}

/** Characters of a path that are shown: keys come from the file and may be of any length. */
const PATH_SHOWN_MAX = 200;

/** Characters of a value that are shown in a message. */
const VALUE_SHOWN_MAX = 60;

/** A value as a message shows it: quoted, on one line, bounded. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  return JSON.stringify(clip(typeof value === "string" ? value : JSON.stringify(value), VALUE_SHOWN_MAX));
}

function clip(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max)}...`;
}
