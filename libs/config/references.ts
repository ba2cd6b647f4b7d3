import { SignalboxError } from "#libs/errors/index.ts";
import { shown, type ConfigPath, type Report } from "./problems.ts";
import { Secret } from "./secret.ts";

/** What a reference may read from. */
export interface ReferenceSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Reads a file as text; throws when it cannot. undefined: this caller has no files. */
  readonly readFile: ((path: string) => string) | undefined;
}

/** `${env:NAME}`, `${env:NAME:-default}` or `${file:PATH}`; `$${` stands for `${`. */
const REFERENCE = /\$?\$\{([^}]*)\}?/g;
const BODY = /^(?:env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?|file:(.+))$/s;
const WHOLE = /^\$\{(?:env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?|file:([^}]+))\}$/;

/** Text taken from a file or the environment is bounded: settings are words, not documents. */
const REFERENCED_MAX_CHARS = 65_536;

/** Settings that hold a secret: never resolved while loading, only by who uses them. */
const SECRET_PATHS: readonly (readonly string[])[] = [
  ["backends", "*", "key"],
  ["ledger", "store"],
  ["mesh", "nats", "url"],
  ["mesh", "nats", "creds"],
];

/** Whether the setting at `path` holds a secret. */
export function isSecretPath(path: ConfigPath): boolean {
  return SECRET_PATHS.some(
    (pattern) => pattern.length === path.length && pattern.every((part, index) => part === "*" || part === path[index]),
  );
}

/** A copy of the tree with the references in its strings resolved, except in secrets. */
export function resolveReferences(value: unknown, path: ConfigPath, sources: ReferenceSources, report: Report): unknown {
  if (typeof value === "string") return isSecretPath(path) ? value : resolveText(value, path, sources, report);
  if (Array.isArray(value)) return value.map((item, index) => resolveReferences(item, [...path, index], sources, report));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolveReferences(item, [...path, key], sources, report)]));
}

function resolveText(text: string, path: ConfigPath, sources: ReferenceSources, report: Report): string {
  if (!text.includes("${")) return text;
  return text.replaceAll(REFERENCE, (whole, body: string) => {
    if (whole.startsWith("$${")) return whole.slice(1);
    const match = whole.endsWith("}") ? BODY.exec(body) : null;
    if (!match) {
      report(path, `has the reference ${shown(whole)}, write \${env:NAME}, \${env:NAME:-default} or \${file:PATH}`);
      return "";
    }
    const [, name, fallback, file] = match;
    const resolved = file === undefined ? fromEnv(sources, name ?? "", fallback) : fromFile(sources, file);
    if ("value" in resolved) return resolved.value;
    report(path, resolved.error);
    return "";
  });
}

function fromEnv(sources: ReferenceSources, name: string, fallback: string | undefined): { value: string } | { error: string } {
  const value = sources.env[name];
  // As in a shell, `:-` also stands in for an empty variable.
  if (value !== undefined && (value !== "" || fallback === undefined)) return { value: value.slice(0, REFERENCED_MAX_CHARS) };
  if (fallback !== undefined) return { value: fallback };
  return { error: `needs the environment variable ${name}, which is not set: set it, or write \${env:${name}:-default}` };
}

function fromFile(sources: ReferenceSources, file: string): { value: string } | { error: string } {
  if (!sources.readFile) return { error: `refers to the file ${shown(file)}, but files cannot be read here` };
  let text: string;
  try {
    text = sources.readFile(file);
  } catch {
    return { error: `refers to the file ${shown(file)}, which cannot be read: create it or correct the path` };
  }
  if (text.length > REFERENCED_MAX_CHARS)
    return { error: `refers to the file ${shown(file)}, which is larger than ${REFERENCED_MAX_CHARS / 1024} KiB` };
  return { value: text.replace(/\r?\n$/, "") };
}

/** What a secret setting says: a reference, or text that stands in the file. */
type SecretText =
  | { readonly kind: "env"; readonly name: string; readonly fallback: string | undefined }
  | { readonly kind: "file"; readonly file: string }
  | { readonly kind: "literal"; readonly text: string };

/** Reads a secret setting without resolving it. */
export function secretText(raw: string): SecretText {
  const match = WHOLE.exec(raw.trim());
  if (!match) return { kind: "literal", text: raw };
  const [, name, fallback, file] = match;
  return file === undefined ? { kind: "env", name: name ?? "", fallback } : { kind: "file", file };
}

/** The secret behind a setting; read at its first `reveal()`, which throws INTERNAL naming the source when it is not there. */
export function secretOf(raw: string, sources: ReferenceSources): Secret {
  const text = secretText(raw);
  if (text.kind === "literal") return Secret.of(text.text);
  const resolve = (): string => {
    const resolved = text.kind === "env" ? fromEnv(sources, text.name, text.fallback) : fromFile(sources, text.file);
    if ("value" in resolved) return resolved.value.trim();
    throw new SignalboxError("INTERNAL", `a secret of the configuration ${resolved.error}`);
  };
  return new Secret(text.kind === "env" ? `env:${text.name}` : `file:${text.file}`, resolve);
}
