import assert from "node:assert/strict";
import { test } from "node:test";
import { ResponseParser } from "./http-response.ts";

function parse(pieces: readonly string[], close = false): string[] {
  const log: string[] = [];
  let body = "";
  const parser = new ResponseParser({
    head: (status, isEventStream) => void log.push(`head ${status}${isEventStream ? " sse" : ""}`),
    body: (bytes) => void (body += bytes.toString("latin1")),
    end: (keepAlive) => {
      log.push(`end ${body}${keepAlive ? "" : " close"}`);
      body = "";
    },
    malformed: (problem) => void log.push(`malformed ${problem}`),
  });
  for (const piece of pieces) parser.push(Buffer.from(piece, "latin1"));
  if (close && parser.close()) log.push(`cut ${body}`);
  return log;
}

const TWO =
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" +
  "HTTP/1.1 429 Too Many\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n";

test("two responses on one connection are read, however the bytes are cut", () => {
  const expected = ["head 200", "end hello", "head 429 sse", "end abc0123456789abcdef close"];
  assert.deepEqual(parse([TWO]), expected);
  for (let at = 1; at < TWO.length; at++) assert.deepEqual(parse([TWO.slice(0, at), TWO.slice(at)]), expected, `cut at ${at}`);
  assert.deepEqual(parse(TWO.split("")), expected);
});

test("a body without length ends with the connection", () => {
  assert.deepEqual(parse(["HTTP/1.1 200 OK\r\n\r\nab", "c"], true), ["head 200", "end abc close"]);
});

test("an informational response and an empty one are no trouble", () => {
  assert.deepEqual(parse(["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]), [
    "head 204",
    "end ",
    "head 200",
    "end ",
  ]);
});

for (const [what, bytes] of [
  ["in its head", "HTTP/1.1 200"],
  ["in its body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"],
  ["between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n"],
] as const) {
  test(`a response cut ${what} is noticed at the close`, () => assert.match(parse([bytes], true).at(-1)!, /^cut/));
}

test("a connection closed between responses is not cut", () => {
  assert.deepEqual(parse(["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"], true), ["head 200", "end x"]);
});

for (const bytes of [
  "SSH-2.0-x\r\n\r\n",
  "HTTP/1.1 2x0 OK\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  "x".repeat(70_000),
]) {
  test(`what is no response is malformed, once: ${JSON.stringify(bytes.slice(0, 40))}`, () => {
    const log = parse([bytes, bytes]);
    assert.equal(log.filter((line) => line.startsWith("malformed")).length, 1);
  });
}
