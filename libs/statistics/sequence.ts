import { type Moments, variance } from "./moments.ts";

/** Sample size at which a sequence is tightest: guards look early, success metrics late. */
export const TUNED_FOR = { guard: 1_000, success: 5_000 } as const;

/** Samples an arm must have before an interval says anything: the sequences hold asymptotically. */
export const SAMPLES_MIN = { guard: 50, success: 200 } as const;

/** The difference of the means (treatment - control) with its bounds. */
export interface Interval {
  readonly difference: number;
  readonly lower: number;
  readonly upper: number;
}

/**
 * Asymptotic confidence sequence of a difference of means (normal mixture; Waudby-Smith et al. 2021, as GrowthBook computes it): it holds
 * at all sample sizes at once with probability 1 - `alpha`, so looking at it after every sample is safe. Undefined below two samples an arm.
 */
export function confidenceSequence(
  control: Readonly<Moments>,
  treatment: Readonly<Moments>,
  alpha: number,
  tunedFor: number,
): Interval | undefined {
  const pooled = pool(control, treatment);
  if (pooled === undefined) return undefined;
  const { n, s2, difference } = pooled;
  const rho = rhoOf(alpha, tunedFor);
  const nr = n * rho * rho + 1;
  const half = Math.sqrt(s2) * Math.sqrt(((2 * nr) / (n * rho) ** 2) * Math.log(Math.sqrt(nr) / alpha));
  return { difference, lower: difference - half, upper: difference + half };
}

/** The same on one side: `lower` (and, by itself, `upper`) holds at all sample sizes with probability 1 - `alpha`. */
export function oneSidedSequence(
  control: Readonly<Moments>,
  treatment: Readonly<Moments>,
  alpha: number,
  tunedFor: number,
): Interval | undefined {
  const pooled = pool(control, treatment);
  if (pooled === undefined) return undefined;
  const { n, s2, difference } = pooled;
  const rho = rhoOf(2 * alpha, tunedFor);
  const nr = n * rho * rho + 1;
  const half = Math.sqrt(((s2 * 2 * nr) / (n * rho) ** 2) * Math.log(1 + Math.sqrt(nr) / (2 * alpha)));
  return { difference, lower: difference - half, upper: difference + half };
}

/** Tunes the mixture to be tightest at `tunedFor` samples. */
function rhoOf(alpha: number, tunedFor: number): number {
  const minus2Log = -2 * Math.log(alpha);
  return Math.sqrt((minus2Log + Math.log(minus2Log + 1)) / tunedFor);
}

function pool(control: Readonly<Moments>, treatment: Readonly<Moments>): { n: number; s2: number; difference: number } | undefined {
  if (control.count < 2 || treatment.count < 2) return undefined;
  const n = control.count + treatment.count;
  const s2 = n * (variance(control) / control.count + variance(treatment) / treatment.count);
  return { n, s2, difference: treatment.mean - control.mean };
}

/** Relative differences further out than this are not told apart. */
const RATIO_MAX = 1_000;
const RATIO_HALVINGS = 60;

/**
 * The relative difference of two positive means (0.1 = the treatment's is a tenth higher), with bounds that hold at all sample sizes at
 * once: all r for which the sequence of treatment - (1 + r) control holds zero (Fieller). Undefined where the control's mean is not positive.
 */
export function ratioSequence(
  control: Readonly<Moments>,
  treatment: Readonly<Moments>,
  alpha: number,
  tunedFor: number,
): Interval | undefined {
  if (!(control.mean > 0) || pool(control, treatment) === undefined) return undefined;
  const difference = treatment.mean / control.mean - 1;
  const lowerAt = (ratio: number): number => confidenceSequence(scaled(control, 1 + ratio), treatment, alpha, tunedFor)!.lower;
  const upperAt = (ratio: number): number => confidenceSequence(scaled(control, 1 + ratio), treatment, alpha, tunedFor)!.upper;
  return {
    difference,
    lower: edge(-1, difference, (ratio) => lowerAt(ratio) <= 0),
    upper: edge(RATIO_MAX, difference, (ratio) => upperAt(ratio) >= 0),
  };
}

/** Whether the treatment's mean is certainly above (1 + margin) times the control's. */
export function exceedsRatio(
  control: Readonly<Moments>,
  treatment: Readonly<Moments>,
  margin: number,
  alpha: number,
  tunedFor: number,
): boolean {
  const interval = oneSidedSequence(scaled(control, 1 + margin), treatment, alpha, tunedFor);
  return interval !== undefined && interval.lower > 0;
}

function scaled({ count, mean, m2 }: Readonly<Moments>, factor: number): Moments {
  return { count, mean: mean * factor, m2: m2 * factor * factor };
}

/** The outermost value between `inside`, which holds, and `outside` that holds too. */
function edge(outside: number, inside: number, holds: (value: number) => boolean): number {
  if (holds(outside)) return outside;
  let [out, within] = [outside, inside];
  for (let halving = 0; halving < RATIO_HALVINGS; halving++) {
    const middle = (out + within) / 2;
    if (holds(middle)) within = middle;
    else out = middle;
  }
  return within;
}
