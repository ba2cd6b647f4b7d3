import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SignalboxError } from "#libs/errors/index.ts";

/** Makes the data folder where it is missing. Throws with the setting's name when it cannot be written. */
export function openDataDir(path: string): string {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  } catch (cause) {
    throw new SignalboxError(
      "INTERNAL",
      `The data folder ${path} cannot be made: ${(cause as Error).message}. Choose another with --data-dir.`,
      { cause },
    );
  }
}

/** The admin token: kept in `<data-dir>/admin.token`, readable by its owner only, drawn at the first start. */
export function adminToken(dataDir: string): string {
  const path = join(dataDir, "admin.token");
  if (existsSync(path)) return readFileSync(path, "utf8").trim();
  const token = randomBytes(32).toString("base64url");
  writeFileSync(path, `${token}\n`, { mode: 0o600, flag: "wx" });
  return token;
}

/** One small file that is replaced whole: a reader sees the old or the new content, never a part. */
export function stateFile(
  dataDir: string,
  name: string,
): { load(): Promise<Uint8Array | undefined>; save(bytes: Uint8Array): Promise<void> } {
  const path = join(dataDir, name);
  return {
    load: () => Promise.resolve(existsSync(path) ? readFileSync(path) : undefined),
    save: (bytes) => {
      writeFileSync(`${path}.new`, bytes, { mode: 0o600 });
      renameSync(`${path}.new`, path);
      return Promise.resolve();
    },
  };
}
