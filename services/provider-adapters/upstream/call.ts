import type { Dispatcher } from "undici";
import type { UpstreamHeaders } from "../codec.ts";
import { failureOf, type UpstreamFailure } from "./failure.ts";

/** What hears of a call. Nothing is called after `ended`, `failed` or `abort()`. */
export interface UpstreamListener {
  /** The request is being written to a connection. */
  sent(): void;
  /** The final status and headers (never a 1xx). */
  headers(status: number, headers: UpstreamHeaders): void;
  /** Bytes of the body. The buffer is the listener's to keep. */
  data(chunk: Buffer): void;
  /** The body ended as announced. */
  ended(): void;
  failed(failure: UpstreamFailure): void;
}

/** Ends a call whose answer nobody wants; never shown. */
const ABORTED = new Error("aborted");

/** One HTTP call: undici's handler on one side, a listener on the other. */
export class UpstreamCall implements Dispatcher.DispatchHandler {
  readonly #listener: UpstreamListener;
  #controller: Dispatcher.DispatchController | undefined;
  #sent = false;
  #answered = false;
  #over = false;

  constructor(listener: UpstreamListener) {
    this.#listener = listener;
  }

  /** Whether the call still holds a connection. */
  get open(): boolean {
    return !this.#over;
  }

  /** Closes the connection now, or takes the request out before it is written. The listener hears nothing more. */
  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.#controller?.abort(ABORTED);
  }

  /** Stops reading from this call's socket. */
  pause(): void {
    this.#controller?.pause();
  }

  /** Reads on. */
  resume(): void {
    this.#controller?.resume();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#over) {
      controller.abort(ABORTED);
      return;
    }
    this.#sent = true;
    this.#listener.sent();
  }

  onResponseStarted(): void {
    this.#answered = true;
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: UpstreamHeaders): void {
    this.#answered = true;
    if (this.#over || status < 200) return;
    this.#listener.headers(status, headers);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#over) this.#listener.data(chunk);
  }

  onResponseEnd(): void {
    if (this.#over) return;
    this.#over = true;
    this.#listener.ended();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#listener.failed(failureOf(error, { sent: this.#sent, answered: this.#answered }));
  }
}
