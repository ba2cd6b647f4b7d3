/**
 * Splits a whole number of tokens by weights so that the parts add up to it exactly: floors first, then one each to the largest
 * remainders (Hamilton's method; ties go to the first). Weights that are all zero count as equal.
 */
export function shareTokens(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((all, weight) => all + weight, 0);
  const quota = weights.map((weight) => (sum > 0 ? (total * weight) / sum : total / weights.length));
  const parts = quota.map(Math.floor);
  let left = total - parts.reduce((all, part) => all + part, 0);
  const order = quota.map((value, index) => ({ index, rest: value - Math.floor(value) }));
  order.sort((a, b) => b.rest - a.rest || a.index - b.index);
  for (let at = 0; left > 0; at = (at + 1) % order.length, left--) parts[order[at]!.index]!++;
  return parts;
}
