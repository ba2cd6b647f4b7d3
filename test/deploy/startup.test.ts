import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { freePorts } from "#deploy/local/ports.ts";
import { startProcess } from "#deploy/process.ts";
import { openConfigFile } from "#deploy/reload.ts";
import { AWAITED_MS } from "#libs/peers/index.ts";

test("fault: a process called itself ready before its listeners were open, and hung on a database that says nothing", async (t) => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => void sockets.add(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const dir = mkdtempSync(join(tmpdir(), "signalbox-startup-"));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const [adminPort, grpcPort, meshPort] = await freePorts(3);
  const file = join(dir, "signalbox.yaml");
  const database = `postgres://127.0.0.1:${(silent.address() as AddressInfo).port}/ledger`;
  const backend = "{ provider: openai, url: 'http://127.0.0.1:1/v1', model: m, price: { per_million: { input: $1, output: $1 } } }";
  writeFileSync(
    file,
    `version: 1\nbackends: { a: ${backend} }\nledger: { store: '${database}' }\nmesh: { listen: '127.0.0.1:${meshPort}', nats: { url: 'nats://127.0.0.1:1' } }\n`,
  );
  const opened = openConfigFile(file, dir, { adminPort: adminPort!, grpcPort: grpcPort! });
  assert.ok(opened.problems === undefined, opened.problems?.join("\n"));
  const connected = once(silent, "connection");
  const startedMs = performance.now();
  const starting = startProcess({
    roles: [{ role: "cost-ledger", only: undefined }],
    config: opened.config,
    dataDir: dir,
    logLevel: "silent",
    env: {},
  });
  const readyz = async (): Promise<string> => {
    const answer = await fetch(`http://127.0.0.1:${adminPort}/readyz?verbose`);
    return `${answer.status} ${await answer.text()}`;
  };
  await connected;
  assert.match(await readyz(), /^503 [^]*startup/);
  const process = await starting;
  const after = await readyz();
  assert.match(after, /postgres does not answer/);
  assert.doesNotMatch(after, /startup/);
  // A new process waits for NATS a while, which is what makes this one unready.
  const isNew = performance.now() - startedMs < AWAITED_MS;
  assert.match(after, isNew ? /^503 [^]*\[-\]bus failed: NATS has not been reached yet/ : /NATS has not been reached yet/);
  await process.shutdown();
});
