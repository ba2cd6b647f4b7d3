import { DecayingHistogram } from "./histogram.ts";

/** Output lengths are a habit of an application: they change over hours, not minutes. */
const HALF_LIFE_MS = 30 * 60_000;

/** Observations before a finer key is believed over a coarser one. */
const BELIEVED_COUNT = 8;

/** Keys kept; the least recently learned goes first. 54 doubles each: about 5 MB. */
const KEYS_MAX = 8_192;

/** Before anything is known: a chat answer. Tokens. */
const PRIOR = { p50: 200, p90: 800 } as const;

/** How long a key keeps its place in the order of use, ms: moving it each time is dear. */
const MOVED_MS = 1_000;

class Sketch extends DecayingHistogram {
  /** When it went to the end of that order. */
  movedMs = 0;
}

/** An estimate of an answer's length, tokens. */
export interface LengthEstimate {
  readonly p50: number;
  readonly p90: number;
}

/**
 * Output lengths by (tenant, prompt template, model), then by (template, model), then by model. The median places requests, the
 * 90th percentile reserves for them.
 */
export class OutputLengths {
  readonly #sketches = new Map<string, Sketch>();

  /** An answer of `tokens` was given. */
  learn(tenant: string, template: string, model: string, tokens: number, nowMs: number): void {
    if (tokens <= 0) return;
    if (template !== "") {
      this.#sketch(`${model}\n${template}\n${tenant}`, nowMs).add(tokens, nowMs);
      this.#sketch(`${model}\n${template}`, nowMs).add(tokens, nowMs);
    }
    this.#sketch(model, nowMs).add(tokens, nowMs);
  }

  /** The finest estimate that has seen enough. */
  estimate(tenant: string, template: string, model: string): LengthEstimate {
    if (template !== "") {
      const own = this.#sketches.get(`${model}\n${template}\n${tenant}`);
      if (own !== undefined && own.total >= BELIEVED_COUNT) return own;
      const shared = this.#sketches.get(`${model}\n${template}`);
      if (shared !== undefined && shared.total >= BELIEVED_COUNT) return shared;
    }
    const any = this.#sketches.get(model);
    return any !== undefined && any.total >= BELIEVED_COUNT ? any : PRIOR;
  }

  #sketch(key: string, nowMs: number): Sketch {
    let sketch = this.#sketches.get(key);
    if (sketch !== undefined && nowMs - sketch.movedMs < MOVED_MS) return sketch;
    if (sketch === undefined) {
      sketch = new Sketch(HALF_LIFE_MS);
      if (this.#sketches.size >= KEYS_MAX) this.#sketches.delete(this.#sketches.keys().next().value!);
    } else {
      this.#sketches.delete(key);
    }
    this.#sketches.set(key, sketch);
    sketch.movedMs = nowMs;
    return sketch;
  }
}
