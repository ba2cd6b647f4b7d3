import type { ServerDuplexStream } from "@grpc/grpc-js";
import { AttemptsRequestFrameSchema, AttemptsResponseFrameSchema } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import type { AttemptsRequestFrame, AttemptsResponseFrame } from "#gen/signalbox/adapter/v1/adapter_service_pb.ts";
import { LiveMap } from "#libs/live/index.ts";
import type { AdapterHost, AttemptData, AttemptEnd, AttemptHandle, AttemptOpen, AttemptSink, CancelReason } from "#libs/peers/index.ts";
import type { Logger } from "#libs/telemetry/index.ts";
import { codecOf } from "#libs/wire/index.ts";
import { ServedFrames } from "./served-frames.ts";

/** Attempts one ingress may have open at once; the adapter's own limits are far smaller. Beyond, the stream is broken. */
const CHANNELS_MAX = 65_536;

/** Stands for an attempt while it is being opened. */
const OPENING: AttemptHandle = { consumed: () => {}, cancel: () => {}, replica: "" };

const KIND = { title: "attempts stream", incoming: codecOf(AttemptsRequestFrameSchema), outgoing: codecOf(AttemptsResponseFrameSchema) };

/** Serves attempts streams from a process's adapters. Streams hear of draining by themselves. */
export function serveAdapter(host: AdapterHost, logger: Logger): (call: ServerDuplexStream<Buffer, Buffer>) => void {
  const streams = new Set<ServedAttempts>();
  host.onChange(() => {
    if (host.draining) for (const stream of streams) stream.drain();
  });
  return (call) => {
    const stream = new ServedAttempts(call, host, logger, () => streams.delete(stream));
    streams.add(stream);
    if (host.draining) stream.drain();
  };
}

/** One ingress's stream: when it ends, however it ends, the attempts it carried are cancelled. */
class ServedAttempts {
  readonly #host: AdapterHost;
  readonly #frames: ServedFrames<AttemptsRequestFrame, AttemptsResponseFrame>;
  readonly #handles = new LiveMap<number, AttemptHandle>();
  #drained = false;

  constructor(call: ServerDuplexStream<Buffer, Buffer>, host: AdapterHost, logger: Logger, onClosed: () => void) {
    this.#host = host;
    const closed = (): void => {
      this.#cancelAll();
      onClosed();
    };
    this.#frames = new ServedFrames(call, KIND, { received: (frame) => this.#received(frame), closed }, logger);
  }

  drain(): void {
    if (this.#drained) return;
    this.#drained = true;
    this.#send(0, { case: "draining", value: { $typeName: "signalbox.adapter.v1.AttemptsDraining" } }, 0);
  }

  #received({ channel, frame }: AttemptsRequestFrame): void {
    switch (frame.case) {
      case "open":
        return this.#open(channel, frame.value);
      case "credit":
        return this.#handles.get(channel)?.consumed(frame.value);
      case "cancel":
        return this.#handles.get(channel)?.cancel(cancelReason(frame.value.reason));
      case undefined:
    }
  }

  #open(channel: number, open: AttemptOpen): void {
    if (channel === 0 || this.#handles.has(channel)) throw new RangeError(`channel ${channel} cannot be opened`);
    if (this.#handles.size >= CHANNELS_MAX) throw new RangeError("too many channels");
    const sink: AttemptSink = {
      data: (data: AttemptData) => this.#send(channel, { case: "data", value: data }, data.data.length),
      end: (end: AttemptEnd) => {
        this.#handles.delete(channel);
        this.#send(channel, { case: "end", value: end }, end.usageEvent.length);
      },
    };
    this.#handles.set(channel, OPENING);
    this.#handles.set(channel, this.#host.attempt(open, sink));
  }

  #send(channel: number, frame: AttemptsResponseFrame["frame"], payloadBytes: number): void {
    this.#frames.send({ $typeName: "signalbox.adapter.v1.AttemptsResponseFrame", channel, frame }, payloadBytes);
  }

  #cancelAll(): void {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    for (const handle of handles) handle.cancel("canceled");
  }
}

/** The reason a frame names; anything unknown is a plain cancellation. */
export function cancelReason(text: string): CancelReason {
  return text === "deadline" || text === "hedge_lost" ? text : "canceled";
}
