import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { checkBackends } from "./check-backends.ts";
import { checkEffects } from "./check-effects.ts";
import { checkReferences, type RuleCheck } from "./check-references.ts";
import { checkValues } from "./check-values.ts";
import { DATA_DIR } from "./defaults.ts";
import { positionOf, readDocument, type ConfigDocument } from "./document.ts";
import { findingsOf } from "./issues.ts";
import type { Config } from "./model.ts";
import { formatProblem, pathText, PROBLEMS_MAX, type ConfigProblem, type Finding, type Report } from "./problems.ts";
import { resolveReferences, type ReferenceSources } from "./references.ts";
import { resolveConfig } from "./resolve.ts";
import { knownKeys } from "./schema-keys.ts";
import { fileSchema } from "./schema.ts";
import { mapAt } from "./tree.ts";

/** What loading needs from outside. */
export interface LoadOptions {
  /** Name of the file, for messages and for paths relative to it. */
  readonly file: string;
  /** The environment `${env:...}` reads. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Reads the file behind `${file:...}`; throws when it cannot. Without it such references are refused. */
  readonly readFile?: (path: string) => string;
  /** Folder of the ledger and the outbox where the file does not say; default `.signalbox`. */
  readonly dataDir?: string;
  /** Compiles a rule's expression and returns what is wrong with it. Without it expressions are taken as they are. */
  readonly checkRule?: RuleCheck;
}

/** A configuration, with what in it has no effect; or everything that is wrong with it: never both, never an exception. */
export type LoadResult =
  | { readonly config: Config; readonly warnings: readonly ConfigProblem[]; readonly problems?: undefined }
  | { readonly problems: readonly ConfigProblem[]; readonly config?: undefined; readonly warnings?: undefined };

/** Turns the text of a `signalbox.yaml` into the configuration. Pure apart from the readers it is given; secrets stay unread. */
export function loadConfig(text: string, options: LoadOptions): LoadResult {
  const { document, findings: broken } = readDocument(text);
  if (broken.length > 0) return { problems: problemsOf(broken, document, text, options.file) };
  const near = (path: string): string => (isAbsolute(path) ? path : join(dirname(options.file), path));
  const readFile = options.readFile;
  const sources: ReferenceSources = { env: options.env, readFile: readFile && ((path) => readFile(near(path))) };
  const findings: Finding[] = [];
  const report: Report = (path, message, at = "value") => findings.push({ path, message, at });
  const tree = resolveReferences(document.value ?? {}, [], sources, report);
  const parsed = fileSchema.safeParse(withoutEmptySections(tree));
  if (!parsed.success) findings.push(...findingsOf(parsed.error.issues, tree, knownKeys));
  const root = mapAt(tree);
  checkBackends(root, report);
  checkReferences(root, options.checkRule, report);
  checkValues(root, report);
  if (!parsed.success || findings.length > 0) return { problems: problemsOf(findings, document, text, options.file) };
  const context = { sources, tree: root, configVersion: versionOf(text), dataDir: options.dataDir ?? DATA_DIR, near };
  const idle: Finding[] = [];
  checkEffects(root, (path, message, at = "key") => idle.push({ path, message, at }));
  return { config: resolveConfig(parsed.data, context), warnings: problemsOf(idle, document, text, options.file) };
}

/** A section whose every line is commented out is not there. */
function withoutEmptySections(tree: unknown): unknown {
  if (typeof tree !== "object" || tree === null || Array.isArray(tree)) return tree;
  return Object.fromEntries(Object.entries(tree).filter(([, value]) => value !== null));
}

/** Twelve hex digits tell apart every revision a file will ever have and fit a log line. */
const VERSION_CHARS = 12;

/** Short hash of a configuration's text. */
function versionOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, VERSION_CHARS);
}

/** Findings that are looked up in the text: each costs a walk over it. */
const LOCATED_MAX = 1_000;

/** Findings with their lines, in the order of the file, each once. */
function problemsOf(findings: readonly Finding[], document: ConfigDocument, text: string, file: string): readonly ConfigProblem[] {
  const seen = new Map<string, ConfigProblem>();
  for (const finding of findings.slice(0, LOCATED_MAX)) {
    const place = finding.offset === undefined ? document.locate(finding.path, finding.at ?? "value") : positionOf(text, finding.offset);
    const problem: ConfigProblem = { file, ...place, path: pathText(finding.path), message: finding.message };
    const spot = `${problem.path}\n${problem.message}`;
    if (!seen.has(spot)) seen.set(spot, problem);
  }
  const sorted = [...seen.values()].toSorted((left, right) => left.line - right.line || left.column - right.column);
  return sorted.slice(0, PROBLEMS_MAX);
}

/** Bytes read from a configuration file at most; a larger one is refused by its size alone. */
const FILE_MAX_BYTES = 4 * 1024 * 1024;

/** Loads a file of this machine with the process's environment. A file that cannot be read is a problem at 1:1. */
export function loadConfigFile(path: string, options: Partial<Omit<LoadOptions, "file">> = {}): LoadResult {
  const unreadable = (message: string): LoadResult => ({ problems: [{ file: path, line: 1, column: 1, path: "(document)", message }] });
  let text: string;
  try {
    const size = statSync(path).size;
    if (size > FILE_MAX_BYTES) return unreadable(`the file is larger than ${FILE_MAX_BYTES / 1024 ** 2} MiB, is this the right file?`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown error";
    return unreadable(`the file cannot be read (${code}), check --config or create ${resolve(path)}`);
  }
  return loadConfig(text, { env: process.env, readFile: readReferenced, ...options, file: path });
}

function readReferenced(path: string): string {
  if (statSync(path).size > FILE_MAX_BYTES) throw new Error("too large");
  return readFileSync(path, "utf8");
}

/** The problems as lines for a terminal or a log. */
export function formatProblems(problems: readonly ConfigProblem[]): string {
  return problems.map(formatProblem).join("\n");
}
