/** Buckets per doubling: an error of at most 1/64 of the value. */
const SUB_BUCKETS = 64;
const SUB_BITS = 6;

/** Doublings covered: 2^36 us is 19 hours. What is longer counts as that. */
const DOUBLINGS = 31;

const BUCKETS = SUB_BUCKETS * (DOUBLINGS + 1);

/** The numbers of a distribution that people compare, in ms. All zero when nothing was recorded. */
export interface Percentiles {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** A histogram of times: whole microseconds in logarithmic buckets, constant memory, within 1.6 % of the truth. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sumUs = 0;
  #maxUs = 0;

  get count(): number {
    return this.#count;
  }

  /** Records one time in ms; a negative one counts as 0. */
  record(ms: number): void {
    const us = Math.max(0, Math.round(ms * 1000));
    this.#counts[bucketOf(us)]!++;
    this.#count++;
    this.#sumUs += us;
    if (us > this.#maxUs) this.#maxUs = us;
  }

  /** The time in ms below which the share `ratio` (0..1) of the records lies. */
  quantile(ratio: number): number {
    if (this.#count === 0) return 0;
    const rank = Math.max(1, Math.ceil(ratio * this.#count));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= rank) return Math.min(middleOf(bucket), this.#maxUs) / 1000;
    }
    return this.#maxUs / 1000;
  }

  /** Adds what `other` recorded. */
  merge(other: Histogram): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.#counts[bucket]! += other.#counts[bucket]!;
    this.#count += other.#count;
    this.#sumUs += other.#sumUs;
    this.#maxUs = Math.max(this.#maxUs, other.#maxUs);
  }

  percentiles(): Percentiles {
    return {
      count: this.#count,
      mean: this.#count === 0 ? 0 : this.#sumUs / this.#count / 1000,
      p50: this.quantile(0.5),
      p90: this.quantile(0.9),
      p95: this.quantile(0.95),
      p99: this.quantile(0.99),
      p999: this.quantile(0.999),
      max: this.#maxUs / 1000,
    };
  }
}

/** Values below SUB_BUCKETS have a bucket each; above, each doubling is cut into SUB_BUCKETS. */
function bucketOf(us: number): number {
  if (us < SUB_BUCKETS) return us;
  const exponent = Math.floor(Math.log2(us));
  const bucket = (exponent - SUB_BITS + 1) * SUB_BUCKETS + Math.floor(us / 2 ** (exponent - SUB_BITS)) - SUB_BUCKETS;
  return Math.min(BUCKETS - 1, bucket);
}

function middleOf(bucket: number): number {
  if (bucket < SUB_BUCKETS) return bucket;
  const width = 2 ** (Math.floor(bucket / SUB_BUCKETS) - 1);
  return (SUB_BUCKETS + (bucket % SUB_BUCKETS)) * width + (width - 1) / 2;
}
