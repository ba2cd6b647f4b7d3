import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AttemptOpenSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import {
  ATTEMPT_WINDOW_BYTES,
  type AdapterPeer,
  type AttemptData,
  type AttemptEnd,
  type AttemptOpen,
  type AttemptSink,
} from "./adapter.ts";
import { FakeAdapterHost } from "./fakes.ts";
import { eventually } from "./policy.contract.ts";

/** A peer to the fake adapters, and how to let go of both. */
export interface AdapterUnderTest {
  readonly peer: AdapterPeer;
  close(): Promise<void>;
}

/** An attempt at `backend`. */
export function openOf(attemptId: string, backend = "backend-a", bodyBytes = 100): AttemptOpen {
  const body = new Uint8Array(bodyBytes).map((_, index) => index & 0xff);
  return create(AttemptOpenSchema, {
    attemptId,
    backend,
    body,
    fields: [0, 4, 6, 300],
    stream: true,
    enginePriority: -3,
    enginePrioritySet: true,
  });
}

/** A sink that remembers. */
export class RecordingSink implements AttemptSink {
  readonly chunks: AttemptData[] = [];
  readonly ends: AttemptEnd[] = [];
  onData: (data: AttemptData) => void = () => {};

  data(data: AttemptData): void {
    assert.equal(this.ends.length, 0, "data after the end");
    this.chunks.push(data);
    this.onData(data);
  }

  end(end: AttemptEnd): void {
    this.ends.push(end);
  }

  get text(): string {
    return Buffer.concat(this.chunks.map((chunk) => chunk.data)).toString();
  }
}

/** What an adapter peer promises, near or far. `open` gives a peer that serves `backend-a` from `host`. */
export function adapterContract(name: string, open: (host: FakeAdapterHost) => Promise<AdapterUnderTest>): void {
  const suite = (title: string, run: (host: FakeAdapterHost, peer: AdapterPeer) => Promise<void>): void => {
    test(`${name}: ${title}`, async () => {
      const host = new FakeAdapterHost();
      const under = await open(host);
      try {
        await run(host, under.peer);
      } finally {
        await under.close();
      }
    });
  };

  suite("the request arrives whole, the answer in order, the end last and once", async (host, peer) => {
    host.onAttempt = (attempt) => {
      for (const word of ["one ", "two ", "three"]) attempt.send(Buffer.from(word));
      attempt.finish({ finishReason: "stop", usageKnown: true, ttftMs: 12.5, warnings: ["seed: dropped"] });
    };
    const sink = new RecordingSink();
    const opened = openOf("first");
    peer.attempt(opened, sink);
    assert.deepEqual([sink.chunks.length, sink.ends.length], [0, 0], "called back before attempt() returned");
    await eventually(() => sink.ends.length > 0, "the end");
    assert.deepEqual(host.attempts[0]!.open, opened);
    assert.equal(sink.text, "one two three");
    assert.equal(sink.ends.length, 1);
    assert.equal(sink.ends[0]!.outcome, Outcome.OK);
    assert.equal(sink.ends[0]!.ttftMs, 12.5);
    assert.deepEqual(sink.ends[0]!.warnings, ["seed: dropped"]);
  });

  suite("a slow consumer holds the adapter at its window, and consuming opens it again", async (host, peer) => {
    const chunk = new Uint8Array(16 * 1024);
    let sent = 0;
    const total = 4 * ATTEMPT_WINDOW_BYTES;
    host.onAttempt = (attempt) => {
      const pump = (): void => {
        while (sent < total && attempt.send(chunk)) sent += chunk.length;
        if (sent >= total) attempt.finish();
      };
      attempt.onEvent = () => queueMicrotask(pump);
      pump();
    };
    const sink = new RecordingSink();
    const handle = peer.attempt(openOf("slow"), sink);
    const got = (): number => sink.chunks.reduce((sum, data) => sum + data.data.length, 0);
    await eventually(() => got() === ATTEMPT_WINDOW_BYTES, "a full window");
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(sent, ATTEMPT_WINDOW_BYTES);
    sink.onData = (data) => handle.consumed(data.data.length);
    handle.consumed(ATTEMPT_WINDOW_BYTES);
    await eventually(() => sink.ends.length === 1, "the end");
    assert.equal(got(), total);
  });

  suite("a stalled attempt does not hold up another", async (host, peer) => {
    host.onAttempt = (attempt) => {
      if (attempt.open.attemptId === "stalled") while (attempt.send(new Uint8Array(64 * 1024))) continue;
      else {
        attempt.send(Buffer.from("through"));
        attempt.finish();
      }
    };
    peer.attempt(openOf("stalled"), new RecordingSink());
    const sink = new RecordingSink();
    peer.attempt(openOf("other"), sink);
    await eventually(() => sink.ends.length === 1, "the other's end");
    assert.equal(sink.text, "through");
  });

  for (const [reason, outcome] of [
    ["canceled", Outcome.CANCELED],
    ["deadline", Outcome.DEADLINE],
    ["hedge_lost", Outcome.HEDGE_LOST],
  ] as const) {
    suite(`cancelling as ${reason} ends the upstream call and says so`, async (host, peer) => {
      const sink = new RecordingSink();
      const handle = peer.attempt(openOf("cut"), sink);
      await eventually(() => host.attempts.length === 1, "the attempt");
      handle.cancel(reason);
      handle.cancel("canceled");
      await eventually(() => sink.ends.length === 1, "the end");
      assert.equal(host.attempts[0]!.cancelled, reason);
      assert.equal(sink.ends[0]!.outcome, outcome);
    });
  }

  suite("many attempts at once keep their bytes apart", async (host, peer) => {
    host.onAttempt = (attempt) => {
      for (let part = 0; part < 5; part++) attempt.send(Buffer.from(`${attempt.open.attemptId}/${part};`));
      attempt.finish();
    };
    const sinks = Array.from({ length: 200 }, (_, index) => {
      const sink = new RecordingSink();
      peer.attempt(openOf(`a${index}`), sink);
      return sink;
    });
    await eventually(() => sinks.every((sink) => sink.ends.length === 1), "all ends");
    for (const [index, sink] of sinks.entries()) assert.equal(sink.text, [0, 1, 2, 3, 4].map((part) => `a${index}/${part};`).join(""));
  });

  suite("a body of several megabytes passes", async (host, peer) => {
    host.onAttempt = (attempt) => attempt.finish();
    const sink = new RecordingSink();
    peer.attempt(openOf("large", "backend-a", 8 * 1024 * 1024), sink);
    await eventually(() => sink.ends.length === 1, "the end");
    assert.equal(host.attempts[0]!.open.body.length, 8 * 1024 * 1024);
    assert.ok(Buffer.from(host.attempts[0]!.open.body).equals(Buffer.from(openOf("large", "backend-a", 8 * 1024 * 1024).body)));
  });

  suite("it knows which backends are served", async (_host, peer) => {
    assert.equal(peer.serves("backend-a"), true);
    assert.equal(peer.serves("backend-z"), false);
  });

  suite("a draining replica is given nothing new and finishes what it has", async (host, peer) => {
    const sink = new RecordingSink();
    peer.attempt(openOf("last"), sink);
    await eventually(() => host.attempts.length === 1, "the attempt");
    host.drain();
    await eventually(() => !peer.serves("backend-a"), "the drain");
    host.attempts[0]!.send(Buffer.from("still here"));
    host.attempts[0]!.finish();
    await eventually(() => sink.ends.length === 1, "the end");
    assert.equal(sink.text, "still here");
    assert.equal(sink.ends[0]!.outcome, Outcome.OK);
  });
}
