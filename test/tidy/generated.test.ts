import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./sources.ts";

test("the generated code is what buf makes of the protos today", () => {
  const folder = mkdtempSync(join(tmpdir(), "signalbox-proto-"));
  try {
    cpSync(join(ROOT, "proto"), folder, { recursive: true, filter: (source) => !source.endsWith("/gen") });
    const bin = join(ROOT, "node_modules/.bin");
    execFileSync(join(bin, "buf"), ["generate"], { cwd: folder, env: { ...process.env, PATH: `${bin}:${process.env["PATH"]}` } });
    const made = globSync("gen/**/*.ts", { cwd: folder }).sort();
    const kept = globSync("gen/**/*.ts", { cwd: join(ROOT, "proto") }).sort();
    assert.ok(made.length > 5);
    assert.deepEqual(kept, made);
    for (const file of made)
      assert.equal(
        readFileSync(join(ROOT, "proto", file), "utf8"),
        readFileSync(join(folder, file), "utf8"),
        `${file} is stale: npm run generate`,
      );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
