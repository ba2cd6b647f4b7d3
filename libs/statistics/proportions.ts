/** Successes (or failures) out of so many; `mean` is their share. */
export interface Share {
  readonly count: number;
  readonly mean: number;
}

/** Halvings of the interval that holds the restricted estimate: to 1e-12, far below what a request more or less changes. */
const HALVINGS = 40;

/**
 * Score statistic of "the treatment's share exceeds the control's by more than `margin`" (Farrington and Manning 1990): about standard
 * normal where it exceeds it by exactly that. Its variance is taken at the likeliest pair of shares that far apart, which is what makes
 * it hold where a handful of failures is all there is. 0 where the estimate does not exceed the margin, or an arm is empty.
 */
export function excessScore(control: Share, treatment: Share, margin: number): number {
  const excess = treatment.mean - control.mean - margin;
  if (control.count < 1 || treatment.count < 1 || !(excess > 0)) return 0;
  const share = restrictedShare(control, treatment, margin);
  const other = share + margin;
  const spread = (share * (1 - share)) / control.count + (other * (1 - other)) / treatment.count;
  return spread > 0 ? excess / Math.sqrt(spread) : 0;
}

/** The control's likeliest share, given that the treatment's is `margin` higher: where the likelihood, which is concave, stops rising. */
function restrictedShare(control: Share, treatment: Share, margin: number): number {
  let low = Math.max(0, -margin);
  let high = Math.min(1, 1 - margin);
  for (let halving = 0; halving < HALVINGS; halving++) {
    const share = (low + high) / 2;
    if (slope(control, share) + slope(treatment, share + margin) > 0) low = share;
    else high = share;
  }
  return (low + high) / 2;
}

function slope({ count, mean }: Share, share: number): number {
  return (count * mean) / share - (count * (1 - mean)) / (1 - share);
}

/** Share of the standard normal above `z`: within 1.5e-7 (Abramowitz and Stegun 7.1.26). */
export function normalTail(z: number): number {
  if (z < 0) return 1 - normalTail(-z);
  const x = z / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return 0.5 * series * Math.exp(-x * x);
}
