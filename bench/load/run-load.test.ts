import assert from "node:assert/strict";
import { createServer, type Server } from "node:net";
import { after, describe, test } from "node:test";
import { portOf, startUpstream } from "../upstream.ts";
import { chatBody, type LoadOptions, type Pace } from "./options.ts";
import { runLoad, type Phase } from "./run-load.ts";

/** Length of a measurement, ms: a machine that stands still for a while leaves some of it. The tests measure side by side. */
const DURATION_MS = 3_000;

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

function options(port: number, stream: boolean, pace: Pace): LoadOptions {
  const body = chatBody({ model: "bench", stream, promptTokens: 10, maxTokens: 5 });
  return { host: "127.0.0.1", port, path: "/v1/chat/completions", headers: {}, body, stream, pace, warmupMs: 50, durationMs: DURATION_MS };
}

async function upstream(): Promise<number> {
  const server = await startUpstream(0);
  servers.push(server);
  return portOf(server);
}

/** A server that writes `answer` to whoever sends anything, and hangs up when told so. */
function fixed(answer: string, hangUp = false): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.on("data", () => (hangUp ? socket.end(answer) : socket.write(answer)));
    });
    servers.push(server);
    server.listen(0, "127.0.0.1", () => resolve(portOf(server)));
  });
}

describe("a load", { concurrency: true }, () => {
  test("a closed loop of whole answers counts every one as complete", async () => {
    const phases: Phase[] = [];
    const report = await runLoad(options(await upstream(), false, { kind: "closed", concurrency: 4 }), {
      phase: (phase) => void phases.push(phase),
    });
    assert.ok(report.ok > 0);
    assert.deepEqual([report.errors, report.requests], [0, report.ok]);
    assert.equal(report.latency.count, report.ok);
    assert.deepEqual(phases, ["warming", "measuring", "done"]);
  });

  test("a closed loop of streams counts their events", async () => {
    const report = await runLoad(options(await upstream(), true, { kind: "closed", concurrency: 3 }));
    assert.ok(report.ok > 0);
    assert.deepEqual(report.errorsByKind, {});
    const eventsEach = (report.eventsPerSecond * report.durationMs) / 1000 / report.ok;
    assert.ok(Math.abs(eventsEach - 8) < 1e-6, `role, five tokens, finish, usage: ${eventsEach}`);
    assert.equal(report.tpot.count, report.ok);
  });

  test("an open loop begins as many requests as its rate says, whatever the answers do", async () => {
    const report = await runLoad(options(await upstream(), false, { kind: "open", rps: 100 }));
    // What a machine that stands still at the end cannot begin is named: nothing is left out.
    const due = report.requests + report.backlog;
    assert.ok(Math.abs(due - DURATION_MS / 10) <= 1, `${report.requests} begun, ${report.backlog} due of ${DURATION_MS / 10}`);
    assert.equal(report.errors, 0);
  });

  for (const [what, answer, hangUp, kind] of [
    ["another status", "HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}", false, "status 503"],
    ["a cut body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", true, "connection: closed inside the answer"],
    ["a hang-up", "", true, "connection: closed without an answer"],
    ["another protocol", "SSH-2.0\r\n\r\n", false, "malformed: no HTTP response"],
    ["another kind of answer", 'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"choices":[]}', false, "answer of the other kind"],
    ["a stream that just ends", "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\n", true, "stream without [DONE]"],
  ] as const) {
    test(`${what} is an error of its own kind`, async () => {
      const report = await runLoad(options(await fixed(answer, hangUp), true, { kind: "closed", concurrency: 1 }));
      assert.equal(report.ok, 0);
      assert.deepEqual(Object.keys(report.errorsByKind), [kind]);
    });
  }

  test("a port nobody listens on is a report full of errors", async () => {
    const server = await startUpstream(0);
    const port = portOf(server);
    await new Promise((resolve) => void server.close(resolve));
    const report = await runLoad(options(port, false, { kind: "closed", concurrency: 2 }));
    assert.equal(report.ok, 0);
    assert.deepEqual(Object.keys(report.errorsByKind), ["connection: ECONNREFUSED"]);
  });
});
