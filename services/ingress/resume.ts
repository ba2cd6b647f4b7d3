import type { AttemptEnd } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import type { Candidate } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { CAPABILITY_BITS } from "#libs/capability/index.ts";
import type { Config } from "#libs/config/model.ts";
import type { SignalboxError } from "#libs/errors/index.ts";
import { Continuation } from "./continuation.ts";
import type { Intake } from "./intake.ts";
import type { ChatRequest } from "./openai/chat.ts";
import { RESUMED_EVENT } from "./openai/stream.ts";
import { Transcript } from "./transcript.ts";

/** What the next backend is to continue. */
export interface ResumePlan {
  /** Text the client has. */
  readonly prefix: string;
  /** Output tokens the client has. */
  readonly tokens: number;
}

/** Engines that go on at the very character: what looks like a repetition there is the answer's own. */
const EXACT_ENGINES: ReadonlySet<string> = new Set(["vllm", "sglang", "tgi"]);

/** Need of every backend that is to continue an answer. */
export const RESUME_NEEDS = 1 << CAPABILITY_BITS.prefill;

/**
 * Whether an answer to this request could be continued by another backend: plain text of one choice. With tools, a format, log
 * probabilities or several choices a seam inside the answer would change its meaning; a conversation that ends with the
 * assistant's words is continued by the caller already.
 */
export function isResumable(chat: ChatRequest): boolean {
  return (
    chat.stream &&
    chat.tools.length === 0 &&
    chat.responseFormat === "text" &&
    chat.n === 1 &&
    !chat.logprobs &&
    !chat.audioOutput &&
    chat.messages.at(-1)?.["role"] !== "assistant"
  );
}

/** The part of an attempt that matters here. */
interface BrokenAttempt {
  readonly candidate: Candidate;
  readonly contentEvents: number;
}

/** Keeps one answer in one piece while backends change behind it (routing, 1.5): what was delivered, and how it goes on. */
export class Resumption {
  readonly #transcript = new Transcript();
  #continuation: Continuation | undefined;
  #plan: ResumePlan | undefined;
  #error: SignalboxError | undefined;
  #upstreamModel = "";
  #tokens = 0;

  /** What the next attempt continues; undefined while the first backend answers. */
  get plan(): ResumePlan | undefined {
    return this.#plan;
  }

  /** How the client hears of it when nobody can go on; undefined while nothing broke. */
  get error(): SignalboxError | undefined {
    return this.#error;
  }

  /** What goes to the client for a piece of the answering attempt; may be empty. */
  pass(piece: Uint8Array): Uint8Array {
    const bytes = this.#continuation === undefined ? piece : this.#continuation.pass(piece);
    if (bytes.length > 0) this.#transcript.add(bytes);
    return bytes;
  }

  /**
   * The answering attempt broke off. `resume` = another backend may go on from the plan; `complete` = the client has the whole
   * answer already; `stop` = it holds what cannot be continued.
   */
  broke(attempt: BrokenAttempt, error: SignalboxError): "resume" | "complete" | "stop" {
    if (this.#transcript.finished) return "complete";
    const prefix = this.#transcript.text();
    if (prefix === undefined) return "stop";
    this.#tokens += attempt.contentEvents;
    this.#upstreamModel = attempt.candidate.upstreamModel;
    this.#error = error;
    this.#plan = { prefix, tokens: this.#tokens };
    return "resume";
  }

  /** Those of the candidates that can continue, same model first: another tokenizer or temper shows at the seam. */
  able(candidates: readonly Candidate[], config: Config): readonly Candidate[] {
    if (this.#plan === undefined) return candidates;
    const able = candidates.filter(({ backend }) => config.backends.get(backend)?.capabilities.has("prefill") === true);
    const isSame = (candidate: Candidate): number => (candidate.upstreamModel === this.#upstreamModel ? 0 : 1);
    return able.sort((a, b) => isSame(a) - isSame(b));
  }

  /** The continuation by a backend of `provider` begins: the comment that says so. */
  begin(provider: string): Uint8Array {
    const repeats = !EXACT_ENGINES.has(provider);
    this.#continuation = new Continuation(this.#transcript.identity, repeats ? (this.#plan?.prefix ?? "") : "");
    return RESUMED_EVENT;
  }

  /** Usage of the whole answer from the last attempt's. */
  usageEvent(event: Uint8Array): Uint8Array {
    return this.#continuation === undefined ? event : this.#continuation.usageEvent(event, this.#tokens);
  }
}

/** The usage event for the client: where it asked for one, and of the whole answer. */
export function usageEventOf(intake: Intake, end: AttemptEnd, resumption: Resumption | undefined): Uint8Array | undefined {
  if (!intake.includeUsage || end.usageEvent.length === 0) return undefined;
  return resumption === undefined ? end.usageEvent : resumption.usageEvent(end.usageEvent);
}
