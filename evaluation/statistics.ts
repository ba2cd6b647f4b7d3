/** A mean with the half width of its 95 % confidence interval. */
export interface Interval {
  readonly mean: number;
  /** 0 when there is one value only: nothing is known of the spread then. */
  readonly half: number;
  readonly count: number;
}

/** Student's t at 97.5 % by degrees of freedom from 1; beyond the table the normal's. */
const T_975 = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.1, 2.09, 2.09];
const NORMAL_975 = 1.96;

/** Mean and t-interval over slices and seeds. */
export function intervalOf(values: readonly number[]): Interval {
  const count = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, count);
  if (count < 2) return { mean, half: 0, count };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  return { mean, half: (T_975[count - 2] ?? NORMAL_975) * Math.sqrt(variance / count), count };
}

/** Interval of `a - b` where both were run on the same slices: their common ups and downs cancel. */
export function pairedDifference(a: readonly number[], b: readonly number[]): Interval {
  return intervalOf(a.map((value, at) => value - b[at]!));
}
