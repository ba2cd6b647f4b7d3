import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./sources.ts";

interface LockedPackage {
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly link?: boolean;
}

const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Record<string, Record<string, string>>;
const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as { packages: Record<string, LockedPackage> };

test("every direct production dependency has a line that says what for", () => {
  const text = readFileSync(join(ROOT, "docs/dependencies.md"), "utf8");
  const names = Object.keys({ ...manifest["dependencies"], ...manifest["optionalDependencies"] });
  assert.deepEqual(
    names.filter((name) => !text.includes(`\`${name}\``)),
    [],
  );
});

test("versions are exact", () => {
  const all = { ...manifest["dependencies"], ...manifest["devDependencies"], ...manifest["optionalDependencies"] };
  assert.deepEqual(
    Object.entries(all).filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version)),
    [],
  );
});

test("no production package runs an install script", () => {
  const wrong = Object.entries(lock.packages).filter(([, entry]) => entry.hasInstallScript === true && entry.dev !== true);
  assert.deepEqual(
    wrong.map(([name]) => name),
    [],
  );
});

test("every locked package is pinned by a sha512 and none by a host of its own", () => {
  const entries = Object.entries(lock.packages).filter(([name, entry]) => name !== "" && entry.link !== true);
  assert.ok(entries.length > 100);
  assert.deepEqual(
    entries.filter(([, { integrity }]) => !integrity?.startsWith("sha512-")).map(([name]) => name),
    [],
  );
  assert.deepEqual(
    entries.filter(([, { resolved }]) => resolved !== undefined).map(([name]) => name),
    [],
  );
});

test("the pinned Node is the same on every platform and new enough", () => {
  const pins = Object.entries(manifest["optionalDependencies"]!).filter(([name]) => name.startsWith("node-"));
  assert.equal(pins.length, 3);
  const [version] = pins.map(([, pin]) => pin);
  assert.ok(pins.every(([, pin]) => pin === version));
  const [major, minor] = version!.split(".").map(Number);
  assert.ok(major === 24 && minor! >= 17, version);
});
