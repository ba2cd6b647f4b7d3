/**
 * Shares each backend's time between the attempts it serves at once: with n in flight, a second of wall time is 1/n of a
 * GPU-second for each. One running integral of dt/n per backend makes that constant work per start and end.
 */
export class GpuShare {
  readonly #backends = new Map<string, { inFlight: number; integralMs: number; atMs: number }>();

  /** An attempt starts; the number is to be handed to {@link end}. Monotonic ms. */
  start(backend: string, nowMs: number): number {
    let state = this.#backends.get(backend);
    if (state === undefined) this.#backends.set(backend, (state = { inFlight: 0, integralMs: 0, atMs: nowMs }));
    if (state.inFlight > 0) state.integralMs += (nowMs - state.atMs) / state.inFlight;
    state.atMs = nowMs;
    state.inFlight++;
    return state.integralMs;
  }

  /** The attempt ended; GPU-seconds it held. */
  end(backend: string, startedIntegralMs: number, nowMs: number): number {
    const state = this.#backends.get(backend);
    if (state === undefined || state.inFlight === 0) return 0;
    state.integralMs += (nowMs - state.atMs) / state.inFlight;
    state.atMs = nowMs;
    state.inFlight--;
    return Math.max(0, state.integralMs - startedIntegralMs) / 1000;
  }
}
