import type { IncomingHttpHeaders } from "node:http";
import { create } from "@bufbuild/protobuf";
import {
  type GenerateRequest,
  type GenerateResponse,
  type GenerateStreamResponse,
  GenerateStreamResponseSchema,
} from "#gen/signalbox/inference/v1/inference_service_pb.ts";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Admission } from "./budgets/admission.ts";
import type { Exchange } from "./dispatch.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Intake } from "./intake.ts";
import type { Pipeline } from "./pipeline.ts";
import { readOptions } from "./request-options.ts";
import { decodeAnswer, StreamReader } from "./typed/decode.ts";
import { encodeGenerate, typedOptions } from "./typed/encode.ts";
import { PulledReply, WholeReply } from "./typed/replies.ts";

/** What a typed call brings beside its message. */
export interface InferenceCall {
  /** Metadata, lower-case names: authorization, x-request-id, traceparent, x-signalbox-*. */
  readonly headers: IncomingHttpHeaders;
  /** Aborts when the caller goes away or its deadline passes. */
  readonly signal: AbortSignal;
  /** Until the caller's deadline, ms; undefined = none. */
  readonly timeoutMs: number | undefined;
}

/** One event of a typed stream. */
export type Generation = GenerateStreamResponse;

/** Inference for internal services: typed messages through the pipeline the HTTP API uses. Rejects with SignalboxError. */
export interface Inference {
  generate(request: GenerateRequest, call: InferenceCall): Promise<GenerateResponse>;
  /** Deltas, then exactly one `done`. */
  generateStream(request: GenerateRequest, call: InferenceCall): AsyncGenerator<Generation, void, undefined>;
}

/** Puts typed inference in front of a pipeline. */
export function createInference(pipeline: Pipeline, admission: Admission, dispatcher: Dispatcher, isClosing: () => boolean): Inference {
  function prepare(request: GenerateRequest, call: InferenceCall, stream: boolean): Intake {
    if (isClosing()) throw new SignalboxError("SHUTTING_DOWN", "The server is shutting down.");
    const arrival = pipeline.arrive(call.headers);
    const caller = pipeline.authenticate(call.headers);
    const options = typedOptions(request, readOptions(call.headers), call.timeoutMs);
    return pipeline.prepare(arrival, caller, options, encodeGenerate(request, stream));
  }

  return {
    async generate(request, call) {
      const intake = prepare(request, call, false);
      await admitted(admission, intake, call.signal);
      const reply = new WholeReply();
      const exchange = dispatcher.dispatch(intake, reply);
      const leave = cancelOnAbort(exchange, call.signal);
      try {
        const { bytes, facts } = await Promise.race([reply.answer, canceled(call.signal)]);
        return decodeAnswer(bytes, facts);
      } finally {
        leave();
      }
    },

    async *generateStream(request, call) {
      const reply = new PulledReply();
      const intake = prepare(request, call, true);
      await admitted(admission, intake, call.signal);
      const exchange = dispatcher.dispatch(intake, reply);
      const leave = cancelOnAbort(exchange, call.signal);
      const gone = canceled(call.signal);
      const reader = new StreamReader();
      try {
        for (;;) {
          await Promise.race([reply.ready(), gone]);
          const { pieces, resumed, end } = reply.take();
          if (resumed) exchange.drained();
          for (const piece of pieces) for (const delta of reader.read(piece)) yield eventOf({ case: "delta", value: delta });
          if (end?.kind === "failed") throw end.error;
          if (end?.kind === "done" && !resumed) {
            if (end.usageEvent !== undefined) reader.read(end.usageEvent);
            yield eventOf({ case: "done", value: reader.done(end.facts) });
            return;
          }
        }
      } finally {
        leave();
        exchange.cancel();
      }
    },
  };
}

/** Resolves when the caller's limits and budgets let the request in; rejects when they do not, or the caller leaves first. */
function admitted(admission: Admission, intake: Intake, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const gone = (): void => reject(new SignalboxError("CANCELED", "The caller went away."));
    const withdraw = admission.admit(intake, (error) => {
      if (error === undefined) resolve();
      else reject(error);
    });
    if (withdraw === undefined) return;
    const leave = (): void => {
      withdraw();
      gone();
    };
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
  });
}

function eventOf(event: GenerateStreamResponse["event"]): GenerateStreamResponse {
  return create(GenerateStreamResponseSchema, { event });
}

function cancelOnAbort(exchange: Exchange, signal: AbortSignal): () => void {
  const cancel = (): void => exchange.cancel();
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
  return () => signal.removeEventListener("abort", cancel);
}

/** Rejects when the caller is gone; its handled rejection is never reported as unhandled. */
function canceled(signal: AbortSignal): Promise<never> {
  const promise = new Promise<never>((_resolve, reject) => {
    const gone = (): void => reject(new SignalboxError("CANCELED", "The caller went away."));
    if (signal.aborted) gone();
    else signal.addEventListener("abort", gone, { once: true });
  });
  promise.catch(() => {});
  return promise;
}
