import assert from "node:assert/strict";
import { createServer, request, type ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { HttpReply } from "./http-reply.ts";
import { NO_FACTS } from "./reply-facts.ts";
import type { ReplyFacts } from "./reply.ts";

const FACTS: ReplyFacts = { ...NO_FACTS, requestId: "r", decisionId: "d", backend: "b", model: "m", attempts: 1 };

/** Every byte there is, and more than node writes from its stack. */
const SMALL = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
const LARGE = Buffer.concat(Array.from({ length: 256 }, () => SMALL));

/** Port of a server that answers every request through a reply. */
async function serve(t: TestContext, answer: (reply: HttpReply, response: ServerResponse) => void): Promise<number> {
  const server = createServer((_, response) => answer(new HttpReply(response, () => false, 1_000), response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Body of an answer as node's own client reads it; `whole` is false where the body broke off. */
function get(port: number): Promise<{ readonly body: Buffer; readonly whole: boolean }> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, host: "127.0.0.1", agent: false }, (response) => {
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("error", () => {});
      response.on("close", () => resolve({ body: Buffer.concat(pieces), whole: response.complete }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

/** Everything a server sends to these bytes until it closes. */
function raw(port: number, head: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(head));
    let text = "";
    socket.setEncoding("latin1");
    socket.on("data", (piece: string) => (text += piece));
    socket.on("error", reject);
    socket.on("close", () => resolve(text));
  });
}

/** Pieces of several turns, small, large and empty ones. */
function stream(reply: HttpReply, last: Uint8Array): void {
  reply.open(FACTS);
  reply.write(SMALL);
  setImmediate(() => {
    reply.write(LARGE);
    setImmediate(() => {
      reply.write(new Uint8Array(0));
      setImmediate(() => reply.finish(FACTS, last));
    });
  });
}

test("a stream's bytes arrive as they are, whatever their size, and its end is told from a break", async (t) => {
  for (const last of [SMALL, LARGE]) {
    const port = await serve(t, (reply) => stream(reply, last));
    const { body, whole } = await get(port);
    assert.deepEqual(body, Buffer.concat([SMALL, LARGE, last, Buffer.from("data: [DONE]\n\n")]));
    assert.equal(whole, true);
  }
  const broken = await serve(t, (reply) => {
    reply.open(FACTS);
    reply.write(SMALL);
    setImmediate(() => reply.drop());
  });
  assert.equal((await get(broken)).whole, false);
});

test("a connection goes on after a stream, and an old client gets the bytes without frames", async (t) => {
  const port = await serve(t, (reply) => stream(reply, SMALL));
  const twice = await raw(port, "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
  assert.equal(twice.match(/HTTP\/1\.1 200/g)?.length, 2);
  assert.equal(twice.match(/\r\n0\r\n\r\n/g)?.length, 2);
  const old = await raw(port, "GET / HTTP/1.0\r\n\r\n");
  const all = Buffer.concat([SMALL, LARGE, SMALL]).toString("latin1");
  assert.equal(old.slice(old.indexOf("\r\n\r\n") + 4), `${all}data: [DONE]\n\n`);
});

test("a whole answer's bytes arrive as they are, whatever their size", async (t) => {
  for (const pieces of [[SMALL], [LARGE], [SMALL, LARGE]]) {
    const port = await serve(t, (reply) => reply.whole(FACTS, pieces));
    assert.deepEqual((await get(port)).body, Buffer.concat(pieces));
  }
});
