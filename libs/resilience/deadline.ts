/** A moment on the monotonic clock by which a request must be over. Immutable; travels with the request. */
export class Deadline {
  /** No deadline: nothing ever expires. */
  static readonly none = new Deadline(Number.POSITIVE_INFINITY);

  /** Monotonic ms; Infinity = none. */
  readonly atMs: number;

  private constructor(atMs: number) {
    this.atMs = atMs;
  }

  /** `timeoutMs` from `nowMs` (monotonic); 0, negative or not finite = none, as on the wire. */
  static after(nowMs: number, timeoutMs: number): Deadline {
    return timeoutMs > 0 && Number.isFinite(timeoutMs) ? new Deadline(nowMs + timeoutMs) : Deadline.none;
  }

  /** Ms left, never negative; Infinity when there is none. */
  remainingMs(nowMs: number): number {
    return Math.max(0, this.atMs - nowMs);
  }

  /** Whether the moment has come. */
  isOver(nowMs: number): boolean {
    return nowMs >= this.atMs;
  }

  /** `timeoutMs`, but not beyond the deadline. */
  cap(timeoutMs: number, nowMs: number): number {
    return Math.min(timeoutMs, this.remainingMs(nowMs));
  }

  /** The earlier of both. */
  earlier(other: Deadline): Deadline {
    return other.atMs < this.atMs ? other : this;
  }
}
