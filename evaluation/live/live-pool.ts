import { Agent, request as httpRequest } from "node:http";
import type { Clock } from "#libs/clock/index.ts";
import type { Placement, PoolRequest, PoolView, RequestResult, Router } from "../pool.ts";
import { promptOf } from "./prompt.ts";

/** What a live run sends to. */
export interface LiveTarget {
  /** http://127.0.0.1:PORT of the ingress. */
  readonly api: string;
  /** The model to ask for so that the mesh goes to this backend; -1 = the mesh chooses. */
  modelOf(backend: number): string;
}

/** What is kept of an error's body, characters. */
const ERROR_CHARS = 200;

/** The mark of a chunk with text in it. */
const CONTENT = Buffer.from('"content":"');
const DONE = Buffer.from("data: [DONE]");

/** Runs requests through a router over the mesh in wall-clock time, open loop: each is sent when its time comes, whatever the others do. */
export async function runLive(
  clock: Clock,
  view: PoolView,
  router: Router,
  requests: readonly PoolRequest[],
  target: LiveTarget,
): Promise<RequestResult[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  const startMs = clock.monotonicMs();
  const flights = requests.map(async (request) => {
    // A slow timer makes the request late, and its time counts from when it was due.
    await clock.sleep(Math.max(0, startMs + request.atMs - clock.monotonicMs()));
    return new LiveFlight({ clock, view, router, target, agent }, request, startMs + request.atMs).result;
  });
  const results = await Promise.all(flights);
  router.close?.();
  agent.destroy();
  return results;
}

interface FlightDeps {
  readonly clock: Clock;
  readonly view: PoolView;
  readonly router: Router;
  readonly target: LiveTarget;
  readonly agent: Agent;
}

/** One request on its way through the mesh. */
class LiveFlight implements Placement {
  readonly result: Promise<RequestResult>;
  readonly #deps: FlightDeps;
  readonly #request: PoolRequest;
  readonly #arrivedMs: number;
  readonly #settle: (result: RequestResult) => void;
  #attempts = 0;
  #sentMs = 0;

  constructor(deps: FlightDeps, request: PoolRequest, arrivedMs: number) {
    const { promise, resolve } = Promise.withResolvers<RequestResult>();
    this.result = promise;
    this.#settle = resolve;
    this.#deps = deps;
    this.#request = request;
    this.#arrivedMs = arrivedMs;
    deps.router.arrive(request, this);
  }

  send(backend: number): void {
    const { clock, target, agent, router } = this.#deps;
    const request = this.#request;
    this.#attempts++;
    this.#sentMs = clock.monotonicMs();
    const body = JSON.stringify({
      model: target.modelOf(backend),
      stream: true,
      stream_options: { include_usage: true },
      messages: [{ role: "user", content: promptOf(request.id, request.inputTokens, request.outputTokens) }],
    });
    let firstMs = 0;
    let lastMs = 0;
    let whole = false;
    const call = httpRequest(`${target.api}/v1/chat/completions`, {
      method: "POST",
      agent,
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
    });
    const failed = (reason: string): void => this.#end(-1, reason, Number.POSITIVE_INFINITY, 0);
    call.once("error", (error) => failed(error.message));
    call.once("response", (answer) => {
      let text = "";
      answer.on("data", (chunk: Buffer) => {
        if (answer.statusCode !== 200) text += chunk.toString("utf8");
        if (chunk.includes(CONTENT)) {
          lastMs = clock.monotonicMs();
          if (firstMs === 0) {
            firstMs = lastMs;
            router.firstToken?.(request, backend, firstMs - this.#sentMs, 0);
          }
        }
        whole ||= chunk.includes(DONE);
      });
      answer.once("error", (error) => failed(error.message));
      answer.once("end", () => {
        if (answer.statusCode !== 200) return failed(`${answer.statusCode} ${text.slice(0, ERROR_CHARS)}`);
        if (!whole || firstMs === 0) return failed("the stream broke off");
        this.#end(backendOf(this.#deps.view, answer.headers["x-signalbox-backend"]), "", firstMs, lastMs);
        router.done?.(request, backend, lastMs - this.#sentMs);
      });
    });
    call.end(body);
  }

  withdraw(): void {}

  refuse(reason: string): void {
    this.#end(-1, reason, Number.POSITIVE_INFINITY, 0);
  }

  #end(backend: number, error: string, firstMs: number, lastMs: number): void {
    const request = this.#request;
    const { clock } = this.#deps;
    const never = Number.POSITIVE_INFINITY;
    const isAnswered = error === "";
    this.#settle({
      request,
      backend,
      error,
      attempts: this.#attempts,
      arrivedMs: this.#arrivedMs,
      endedMs: clock.monotonicMs(),
      waitedMs: Math.max(0, this.#sentMs - this.#arrivedMs),
      ttftMs: isAnswered ? firstMs - this.#arrivedMs : never,
      tpotMs: isAnswered ? (lastMs - firstMs) / Math.max(1, request.outputTokens - 1) : never,
      endToEndMs: isAnswered ? lastMs - this.#arrivedMs : never,
      costUsd: 0,
    });
  }
}

function backendOf(view: PoolView, header: string | string[] | undefined): number {
  return view.backends.findIndex(({ name }) => name === header);
}

/** The mesh's own choice: every request to the model that has all backends. */
export function meshChooses(): Router {
  return { name: "signalbox", arrive: (_request, placement) => placement.send(-1) };
}
