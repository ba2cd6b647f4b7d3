import assert from "node:assert/strict";
import { createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { parse } from "yaml";
import { SeededRandom } from "#libs/clock/fake.ts";
import { systemClock } from "#libs/clock/index.ts";
import { silentLogger } from "#libs/telemetry/index.ts";
import { replay, sseOf } from "./replay.ts";
import { serveSimulator } from "./serve.ts";
import { stringOf } from "./http/json.ts";
import { recording, send, startBed, testProfiles } from "./testing/bed.ts";

const json = (value: unknown): string => JSON.stringify(value);

test("sim serve prints its backends and a configuration, gives the invoice and switches faults", async () => {
  const printed: string[] = [];
  const served = await serveSimulator({
    clock: systemClock,
    random: new SeededRandom(3),
    logger: silentLogger,
    print: (line) => printed.push(line),
    firstPort: 0,
    fast: true,
  });
  const text = printed.join("\n");
  for (const { name, url } of served.backends) assert.ok(text.includes(name) && text.includes(url));
  const config = parse(text.slice(text.indexOf("# signalbox.yaml"))) as {
    backends: Record<string, { provider: string; url: string; price: object }>;
    models: { chat: { candidates: string[] } };
  };
  assert.deepEqual(config.models.chat.candidates, ["sim-gpu-a", "sim-gpu-b", "sim-openai", "sim-claude"]);
  assert.equal(config.backends["sim-claude"]!.provider, "anthropic");
  assert.match(config.backends["sim-gpu-a"]!.url, /\/v1$/);
  assert.deepEqual(config.backends["sim-gpu-b"]!.price, { per_hour: "$0.80" });

  const faults = `${served.controlUrl}/faults`;
  assert.equal((await send(faults, "POST", json({ backend: "sim-gpu-a", kind: "error", for_ms: 60_000 }), {})).status, 200);
  const chat = (): Promise<number> =>
    send(
      `${served.backends[0]!.url}/chat/completions`,
      "POST",
      json({ model: served.backends[0]!.model, messages: [{ role: "user", content: "hello" }] }),
      {},
    ).then(({ status }) => status);
  assert.equal(await chat(), 500);
  assert.equal(stringOf((await send(faults, "GET", undefined, {})).json()["sim-gpu-a"]?.["0"]?.["kind"]), "error");
  assert.equal((await send(faults, "DELETE", undefined, {})).status, 200);
  assert.equal(await chat(), 200);
  assert.equal((await send(`${served.controlUrl}/invoice`, "GET", undefined, {})).text.match(/"backend":"sim-gpu-a"/g)?.length, 1);
  assert.equal((await send(faults, "POST", json({ backend: "nobody", kind: "error" }), {})).status, 404);
  assert.equal((await send(faults, "POST", json({ backend: "sim-gpu-a", kind: "nope" }), {})).status, 400);
  await served.stop();
});

test("a taken port is an error that names the backend and the port", async () => {
  const first = await startBed(testProfiles().slice(0, 1));
  const port = Number(new URL(first.url("openai")).port);
  await assert.rejects(
    startBed(
      testProfiles()
        .slice(0, 1)
        .map((profile) => ({ ...profile, port })),
    ),
    new RegExp(`openai cannot listen on 127.0.0.1:${port}: EADDRINUSE`),
  );
  await first.simulator.stop();
});

/** What a client sees of a recording: sizes of chunks, the body, and how it ended. */
async function play(recorded: Parameters<typeof replay>[0]): Promise<{ body: string; chunks: number; broken: boolean }> {
  const server = createServer(replay(recorded, systemClock));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    return await new Promise((resolve) => {
      const request = httpRequest({ port, host: "127.0.0.1", agent: false });
      request.on("response", (response) => {
        let body = "";
        let chunks = 0;
        response.on("data", (chunk: Buffer) => ((body += chunk.toString("latin1")), chunks++));
        response.on("end", () => resolve({ body, chunks, broken: false }));
        response.on("error", () => resolve({ body, chunks, broken: true }));
      });
      request.end();
    });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("a recording is played whole or in any pieces, and ends as told", async () => {
  const lines = recording("openai/chat/openai-text.chunks.txt") ?? '{"id":"a"}\n{"id":"b"}';
  const body = sseOf(lines, false, true);
  assert.ok(body.endsWith("\n\ndata: [DONE]\n\n"));
  assert.deepEqual(await play({ body: "0123456789", contentType: "text/event-stream" }), { body: "0123456789", chunks: 1, broken: false });
  const pieces = await play({ body: body.slice(0, 60), chunkBytes: [1, 3] });
  assert.equal(pieces.body, body.slice(0, 60));
  assert.ok(pieces.chunks > 10);
  assert.equal((await play({ body, ending: "cut" })).broken, true);
});

test("Anthropic's recordings get their event names", () => {
  assert.equal(sseOf('{"type":"ping"}\n', true, false), 'event: ping\ndata: {"type":"ping"}\n\n');
});
