import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node, type Pair } from "yaml";
import type { ConfigPath, Finding } from "./problems.ts";

/** A parsed file: plain values, and where each one stands. */
export interface ConfigDocument {
  readonly value: unknown;
  /** Line and column (from 1) of the value or key at `path`; of its nearest ancestor that is written, when it is not. */
  locate(path: ConfigPath, at: "key" | "value"): { readonly line: number; readonly column: number };
}

/** A hand-written configuration has tens of kilobytes. Larger ones are mistakes, and parsing them would hold up a reload. */
const TEXT_MAX_CHARS = 1024 * 1024;
/** Lines, commas and brackets: what parsing time grows with. About ten thousand settings. */
const STRUCTURE_MAX = 50_000;
/** Brackets inside brackets. The deepest setting needs six. */
const NESTING_MAX = 32;
/** Values after aliases are followed: bounds what an alias bomb may grow to. */
const VALUES_MAX = 50_000;

/** `- - - - x`: lists in lists on one line, which no bracket announces. */
const COMPACT_NESTING = new RegExp(`(?:[-?:] +){${NESTING_MAX + 1}}`);

/** Every deeper level of nesting indents by at least a column: this bounds what brackets and dashes do not. */
const INDENTATION_MAX = 512;
const DEEP_INDENTATION = new RegExp(`\\n {${INDENTATION_MAX + 1}}`);

const NEWLINE = 10;
const COMMA = 44;
const OPENERS = new Set(["[".charCodeAt(0), "{".charCodeAt(0)]);
const CLOSERS = new Set(["]".charCodeAt(0), "}".charCodeAt(0)]);

/** Refuses what would be slow to parse, in one pass over the text. */
function refusal(text: string): Finding | undefined {
  if (text.length > TEXT_MAX_CHARS) {
    return { path: [], message: `the file is larger than ${TEXT_MAX_CHARS / 1024} KiB, is this the right file?`, offset: 0 };
  }
  const compact = COMPACT_NESTING.exec(text);
  if (compact) return { path: [], message: `a line nests more than ${NESTING_MAX} deep, write it flatter`, offset: compact.index };
  const indented = DEEP_INDENTATION.exec(text);
  if (indented)
    return {
      path: [],
      message: `a line is indented more than ${INDENTATION_MAX} columns, is it nested too deeply?`,
      offset: indented.index + 1,
    };
  let structure = 0;
  let nesting = 0;
  for (let offset = 0; offset < text.length; offset += 1) {
    const code = text.charCodeAt(offset);
    if (code === NEWLINE || code === COMMA) structure += 1;
    else if (OPENERS.has(code)) {
      structure += 1;
      nesting += 1;
    } else if (CLOSERS.has(code)) nesting = Math.max(0, nesting - 1);
    if (nesting > NESTING_MAX) return { path: [], message: `brackets are nested more than ${NESTING_MAX} deep, write it flatter`, offset };
    if (structure > STRUCTURE_MAX)
      return { path: [], message: `the file has more than ${STRUCTURE_MAX} entries, is this the right file?`, offset };
  }
  return undefined;
}

/** Parses the text. Every problem of the YAML itself comes back as a finding; nothing is thrown. */
export function readDocument(text: string): { readonly document: ConfigDocument; readonly findings: readonly Finding[] } {
  const empty: ConfigDocument = { value: undefined, locate: () => ({ line: 1, column: 1 }) };
  const refused = refusal(text);
  if (refused) return { document: empty, findings: [refused] };
  const lineCounter = new LineCounter();
  let parsed: Document.Parsed;
  try {
    // Duplicate keys are looked for in PlainReader: the parser's own check takes quadratic time.
    parsed = parseDocument(text, { lineCounter, uniqueKeys: false, prettyErrors: false, version: "1.2", schema: "core" });
  } catch (error) {
    const reason = error instanceof RangeError ? "it is nested too deeply" : "it is not YAML";
    return { document: empty, findings: [{ path: [], message: `${reason}, write it flatter or check its indentation`, offset: 0 }] };
  }
  const findings: Finding[] = [...parsed.errors, ...parsed.warnings].map((error) => ({
    path: [],
    message: `${yamlMessage(error.message)}, fix the YAML here`,
    offset: error.pos[0],
  }));
  const reader = new PlainReader(findings);
  const value = reader.read(parsed.contents, [], 0);
  return { document: { value, locate: (path, at) => position(parsed, lineCounter, path, at) }, findings };
}

/** The parser's message without its closing stop, on one line. */
function yamlMessage(message: string): string {
  return (message.split("\n")[0] ?? "").replace(/[.:]$/, "").slice(0, 200);
}

/** Line and column of an offset in a text, from 1. */
export function positionOf(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, offset);
  const lastBreak = before.lastIndexOf("\n");
  return { line: before.split("\n").length, column: offset - lastBreak };
}

/** Turns nodes into plain values with string keys, bounded, collecting duplicate and strange keys. */
class PlainReader {
  /** Anchors met so far: an alias means the last one before it. */
  readonly #anchors = new Map<string, Node>();
  readonly #findings: Finding[];
  #values = 0;
  #overflowed = false;

  constructor(findings: Finding[]) {
    this.#findings = findings;
  }

  read(node: unknown, path: ConfigPath, depth: number): unknown {
    if (this.#overflowed) return undefined;
    this.#values += 1;
    if (this.#values > VALUES_MAX || depth > NESTING_MAX) {
      this.#overflowed = true;
      const what =
        depth > NESTING_MAX ? `nested more than ${NESTING_MAX} deep` : `more than ${VALUES_MAX} values once aliases are followed`;
      this.#findings.push({ path: path.slice(0, 3), message: `is ${what}, write it out without aliases` });
      return undefined;
    }
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target) return this.read(target, path, depth + 1);
      const offset = node.range?.[0] ?? 0;
      this.#findings.push({
        path,
        message: `refers to the anchor *${node.source.slice(0, 60)}, which is not defined before, define it or write the value`,
        offset,
      });
      return undefined;
    }
    if (isNode(node) && node.anchor) this.#anchors.set(node.anchor, node);
    if (isScalar(node)) return this.#scalar(node.value, path);
    if (isSeq(node)) return node.items.map((item, index) => this.read(item, [...path, index], depth + 1));
    if (isMap(node)) return this.#map(node.items, path, depth);
    return null;
  }

  #scalar(value: unknown, path: ConfigPath): unknown {
    if (value === null || ["string", "number", "boolean"].includes(typeof value)) return value;
    this.#findings.push({ path, message: "is of a kind YAML has and this file has not, write text or a number" });
    return undefined;
  }

  #map(pairs: readonly Pair[], path: ConfigPath, depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const offsets = new Map<string, number>();
    for (const pair of pairs) {
      const key = keyText(pair.key);
      const offset = (pair.key as Node | null)?.range?.[0] ?? 0;
      if (key === undefined) {
        this.#findings.push({ path, message: "has a key that is not plain text, write `name: value`", offset });
      } else if (key === "__proto__") {
        this.#findings.push({ path: [...path, key], message: "is not a name, choose another", offset });
      } else if (offsets.has(key)) {
        this.#findings.push({ path: [...path, key], message: "is given twice, remove one of them", offset });
      } else {
        offsets.set(key, offset);
        result[key] = this.read(pair.value, [...path, key], depth + 1);
      }
    }
    return result;
  }
}

function keyText(key: unknown): string | undefined {
  if (!isScalar(key)) return undefined;
  const { value } = key;
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

/** Walks the path as far as it is written. */
function position(document: Document.Parsed, lines: LineCounter, path: ConfigPath, at: "key" | "value"): { line: number; column: number } {
  let node: unknown = document.contents;
  let offset = (node as Node | null)?.range?.[0] ?? 0;
  for (const [index, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find((item) => keyText(item.key) === String(part));
      if (!pair) break;
      const keyOffset = (pair.key as Node).range?.[0] ?? offset;
      const isLast = index === path.length - 1;
      const next = pair.value as Node | null;
      const written = isLast && at === "value" && next !== null && !(isScalar(next) && next.value === null);
      offset = written ? (next.range?.[0] ?? keyOffset) : keyOffset;
      node = next;
    } else if (isSeq(node)) {
      const item = node.items[Number(part)] as Node | undefined;
      if (!item) break;
      offset = item.range?.[0] ?? offset;
      node = item;
    } else break;
  }
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(1, line), column: Math.max(1, col) };
}
