/** Attempts in flight at one backend from this replica, never more than its share of the backend's own bound. */
export class BackendLimit {
  #inFlight = 0;
  #max: number;
  #replicas = 1;

  /** `max` is the bound over all replicas, at least 1. */
  constructor(max: number) {
    this.#max = max;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** This replica's share, at least 1: a backend with fewer slots than replicas may be exceeded by the difference, never starved. */
  get share(): number {
    return Math.max(1, Math.floor(this.#max / this.#replicas));
  }

  /** The bound over all replicas changed, or their number did. What runs goes on. */
  resize(max: number, replicas: number): void {
    this.#max = max;
    this.#replicas = Math.max(1, replicas);
  }

  /** Takes a slot; false when there is none, which the caller answers with BUSY. */
  tryEnter(): boolean {
    if (this.#inFlight >= this.share) return false;
    this.#inFlight++;
    return true;
  }

  /** Gives the slot back; once per successful `tryEnter`. */
  leave(): void {
    this.#inFlight--;
  }
}
