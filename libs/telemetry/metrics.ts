/** A sum that only grows. Get the labelled child once and keep it: `with` looks it up, `add` does not allocate. */
export interface Counter {
  add(amount?: number): void;
}

/** A value that goes up and down. */
export interface Gauge {
  set(value: number): void;
}

/** A distribution over fixed buckets. */
export interface Histogram {
  observe(value: number): void;
}

/** A family of metrics that differ by label values. At most 1,000 children; beyond that the last label becomes `other`. */
export interface Family<T> {
  /** The child for these label values, in the order of the declared labels. */
  with(...values: readonly string[]): T;
}

/** The process's metrics. Declaring one name twice with the same shape gives the same family. */
export interface Metrics {
  counter(name: string, help: string, labels?: readonly string[]): Family<Counter>;
  gauge(name: string, help: string, labels?: readonly string[]): Family<Gauge>;
  /** `buckets` ascending, in the metric's unit. */
  histogram(name: string, help: string, buckets: readonly number[], labels?: readonly string[]): Family<Histogram>;
  /** Calls `collect` before each scrape, to set gauges that are cheap to read and dear to keep. */
  onScrape(collect: () => void): void;
}
