import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Logger } from "./logger.ts";
import { createLogger } from "./pino-logger.ts";

function linesOf(write: (logger: Logger) => void): Record<string, unknown>[] {
  const dir = mkdtempSync(join(tmpdir(), "signalbox-log-"));
  const file = join(dir, "log");
  const fd = openSync(file, "w");
  try {
    const logger = createLogger("info", "test", fd);
    write(logger);
    logger.flush();
    return readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>); // prettier-ignore
  } finally {
    closeSync(fd);
    rmSync(dir, { recursive: true });
  }
}

test("what must never be logged is censored at the top and one level down, and the caller's object stays as it is", () => {
  const fields = { key: "sk-1", model: "m", headers: { "x-api-key": "sk-2", host: "h" }, request: { messages: ["secret"], stream: true } };
  const [line] = linesOf((logger) => logger.info(fields, "request"));
  assert.equal(line!["key"], "[redacted]");
  assert.deepEqual(line!["headers"], { "x-api-key": "[redacted]", host: "h" });
  assert.deepEqual(line!["request"], { messages: "[redacted]", stream: true });
  assert.equal(line!["model"], "m");
  assert.equal(fields.key, "sk-1");
  assert.deepEqual(fields.request.messages, ["secret"]);
});

test("an error keeps its message and stack, a list stays a list, what is undefined is left out", () => {
  const [line] = linesOf((logger) => logger.error({ error: new Error("broken"), attempts: [{ id: 1 }], key: undefined }, "failed"));
  assert.equal((line!["error"] as Record<string, unknown>)["message"], "broken");
  assert.deepEqual(line!["attempts"], [{ id: 1 }]);
  assert.ok(!("key" in line!));
});

test("the fields of a child logger are in each of its lines", () => {
  const lines = linesOf((logger) => {
    const child = logger.child({ backend: "a" });
    child.warn({ n: 1 }, "one");
    child.warn({ n: 2 }, "two");
  });
  assert.deepEqual(lines.map(({ backend, n, level, service }) => ({ backend, n, level, service })), [
    { backend: "a", n: 1, level: "warn", service: "test" },
    { backend: "a", n: 2, level: "warn", service: "test" },
  ]); // prettier-ignore
});
