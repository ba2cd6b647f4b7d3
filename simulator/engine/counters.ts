/** Upper bounds of the latency histograms, seconds: a subset of vLLM's. */
const BOUNDS_S = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];

/** A Prometheus histogram in seconds. */
export class SecondsHistogram {
  readonly #counts = Array.from({ length: BOUNDS_S.length + 1 }, () => 0);
  #sum = 0;
  #count = 0;

  observeMs(ms: number): void {
    const seconds = ms / 1000;
    let slot = 0;
    while (slot < BOUNDS_S.length && seconds > BOUNDS_S[slot]!) slot++;
    this.#counts[slot]!++;
    this.#sum += seconds;
    this.#count++;
  }

  /** Exposition lines of this histogram under `name` with `labels` (`a="b",c="d"`). */
  lines(name: string, labels: string): string {
    let cumulative = 0;
    let text = `# TYPE ${name} histogram\n`;
    BOUNDS_S.forEach((bound, slot) => {
      cumulative += this.#counts[slot]!;
      text += `${name}_bucket{${labels},le="${bound}"} ${cumulative}\n`;
    });
    return `${text}${name}_bucket{${labels},le="+Inf"} ${this.#count}\n${name}_sum{${labels}} ${this.#sum}\n${name}_count{${labels}} ${this.#count}\n`;
  }
}

/** What an engine counts since its start. */
export class EngineCounters {
  promptTokens = 0;
  generationTokens = 0;
  readonly finished = new Map<string, number>();
  readonly ttft = new SecondsHistogram();
  readonly itl = new SecondsHistogram();
  readonly e2e = new SecondsHistogram();
  readonly queue = new SecondsHistogram();

  finish(reason: string): void {
    this.finished.set(reason, (this.finished.get(reason) ?? 0) + 1);
  }
}
