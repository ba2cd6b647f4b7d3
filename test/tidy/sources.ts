import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** One source file. */
export interface Source {
  /** Path from the root, with forward slashes. */
  readonly path: string;
  readonly text: string;
  /** Module specifiers it imports, dynamic ones included. */
  readonly imports: readonly string[];
  readonly isTest: boolean;
}

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\s[^;'"]*?from\s+["']([^"']+)["']|(?:^|\n)\s*import\s+["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/g;

/** Every TypeScript source of the project but the generated ones. */
export function readSources(): Source[] {
  const files = ["libs", "services", "deploy", "simulator", "cli", "bench", "evaluation", "test"].flatMap((room) =>
    globSync(`${room}/**/*.ts`, { cwd: ROOT }),
  );
  return files.map((file) => {
    const path = file.replaceAll("\\", "/");
    const text = readFileSync(join(ROOT, path), "utf8");
    const imports = [...text.matchAll(IMPORT)].map((match) => match[1] ?? match[2] ?? match[3]!);
    const isTest = /\.(test|contract)\.ts$/.test(path) || path.startsWith("test/") || path.includes("/testing");
    return { path, text, imports, isTest };
  });
}

/** The file an import names, from the root; undefined for packages and built-ins. */
export function resolveImport(from: string, specifier: string): string | undefined {
  if (specifier.startsWith("#gen/")) return `proto/gen/${specifier.slice(5)}`;
  if (specifier.startsWith("#")) return specifier.slice(1);
  if (specifier.startsWith(".")) return relative(ROOT, normalize(join(ROOT, dirname(from), specifier))).replaceAll("\\", "/");
  return undefined;
}

/** The package an import names: `@scope/name` or `name`; undefined for files and built-ins. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith(".") || specifier.startsWith("#") || specifier.startsWith("node:")) return undefined;
  const parts = specifier.split("/");
  return specifier.startsWith("@") ? `${parts[0]}/${parts[1]}` : parts[0];
}
