/** Count, mean and squared deviations of a stream of numbers (Welford); absolute, so those of several replicas add up. */
export interface Moments {
  count: number;
  mean: number;
  /** Sum of squared deviations from the mean. */
  m2: number;
}

/** Moments of nothing. */
export function emptyMoments(): Moments {
  return { count: 0, mean: 0, m2: 0 };
}

/** Takes in one number. */
export function addSample(moments: Moments, value: number): void {
  moments.count += 1;
  const delta = value - moments.mean;
  moments.mean += delta / moments.count;
  moments.m2 += delta * (value - moments.mean);
}

/** Moments of both streams together (Chan et al.). */
export function addMoments(a: Readonly<Moments>, b: Readonly<Moments>): Moments {
  const count = a.count + b.count;
  if (count === 0) return emptyMoments();
  const delta = b.mean - a.mean;
  return {
    count,
    mean: a.mean + (delta * b.count) / count,
    m2: a.m2 + b.m2 + (delta * delta * a.count * b.count) / count,
  };
}

/** Sample variance; 0 below two samples. */
export function variance(moments: Readonly<Moments>): number {
  return moments.count < 2 ? 0 : moments.m2 / (moments.count - 1);
}
