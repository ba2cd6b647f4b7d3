import type { Candidate } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { AdapterPeer } from "#libs/peers/index.ts";

/** The candidates of one request: who is left, best first, and who was tried. */
export class Candidates {
  readonly #adapters: Pick<AdapterPeer, "serves">;
  readonly #tried = new Set<string>();
  #left: Candidate[] = [];

  constructor(adapters: Pick<AdapterPeer, "serves">) {
    this.#adapters = adapters;
  }

  /** Not tried since the last decision, best first. */
  get left(): readonly Candidate[] {
    return this.#left;
  }

  /** Backends the next decision should leave out. */
  get tried(): string[] {
    return [...this.#tried];
  }

  /** A decision arrived. */
  refill(candidates: readonly Candidate[]): void {
    this.#left = candidates.slice();
  }

  /** Puts one in front. */
  prefer(candidate: Candidate): void {
    this.#left = [candidate, ...this.#left.filter((other) => other !== candidate)];
  }

  /** Takes the best one that some adapter serves, other than `except`; undefined = there is none. */
  take(except?: string): Candidate | undefined {
    const at = this.#left.findIndex((candidate) => candidate.backend !== except && this.#adapters.serves(candidate.backend));
    if (at < 0) return undefined;
    const [candidate] = this.#left.splice(at, 1);
    this.#tried.add(candidate!.backend);
    return candidate;
  }

  /** Gives up those that are left, because nobody serves them; the best of them is returned. */
  discard(): Candidate | undefined {
    const [best] = this.#left;
    for (const candidate of this.#left) this.#tried.add(candidate.backend);
    this.#left = [];
    return best;
  }

  /** One that was tried did not fail: the next decision may name it again. */
  forgive(backend: string): void {
    this.#tried.delete(backend);
  }

  /** Puts one back that was taken and not used. */
  putBack(candidate: Candidate): void {
    this.#left.unshift(candidate);
    this.#tried.delete(candidate.backend);
  }
}
