import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createMetrics } from "#libs/telemetry/index.ts";
import { RecordsRing } from "./records-ring.ts";

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "signalbox-ring-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function read(ring: RecordsRing): Promise<string[]> {
  const found: string[] = [];
  for await (const block of ring.blocks()) found.push(Buffer.from(block).toString("utf8", 0, 3));
  return found;
}

test("blocks come back the newest first, also after a restart, and a torn end is left out", async (t) => {
  const dir = folder(t);
  const ring = new RecordsRing(dir, 1024 * 1024 * 16, createMetrics());
  for (const text of ["001", "002", "003"]) ring.append(Buffer.from(text));
  await ring.close();
  const again = new RecordsRing(dir, 1024 * 1024 * 16, createMetrics());
  again.append(Buffer.from("004"));
  again.append(Buffer.from("005"));
  await again.close();
  assert.deepEqual(await read(again), ["005", "004", "003", "002", "001"]);
  const last = join(dir, readdirSync(dir).toSorted().at(-1)!);
  truncateSync(last, statSync(last).size - 1);
  assert.deepEqual(await read(again), ["004", "003", "002", "001"]);
});

test("the ring stays within its bytes, and the oldest go", async (t) => {
  const dir = folder(t);
  const ring = new RecordsRing(dir, 16 * 64 * 1024, createMetrics());
  for (let count = 0; count < 40; count++) ring.append(Buffer.alloc(60 * 1024, String(count).padStart(3, "0")));
  await ring.close();
  const bytes = readdirSync(dir).reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
  assert.ok(bytes <= 16 * 64 * 1024, `${bytes}`);
  assert.equal((await read(ring))[0], "039");
  assert.equal((await read(ring)).length, 16);
});

test("a policy is kept under its name", (t) => {
  const ring = new RecordsRing(folder(t), 1024 * 1024, createMetrics());
  ring.keepPolicy("abc-1", Buffer.from("{}"));
  ring.keepPolicy("abc-1", Buffer.from("other"));
  assert.equal(ring.policy("abc-1")?.toString(), "{}");
  assert.equal(ring.policy("abc-2"), undefined);
});
