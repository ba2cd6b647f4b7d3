/**
 * Kendall's tau-b of two rankings of the same things by their figures, -1..1: pairs ordered alike less pairs ordered against each
 * other, ties taken out of the denominator (Kendall 1945). 0 where either has nothing but ties.
 */
export function kendallTau(a: readonly number[], b: readonly number[], tieWithin = 0): number {
  let alike = 0;
  let tiedInA = 0;
  let tiedInB = 0;
  let pairs = 0;
  for (let first = 0; first < a.length; first++) {
    for (let second = first + 1; second < a.length; second++) {
      const inA = sign(a[first]! - a[second]!, tieWithin);
      const inB = sign(b[first]! - b[second]!, tieWithin);
      alike += inA * inB;
      if (inA === 0) tiedInA++;
      if (inB === 0) tiedInB++;
      pairs++;
    }
  }
  const scale = Math.sqrt((pairs - tiedInA) * (pairs - tiedInB));
  return scale === 0 ? 0 : alike / scale;
}

function sign(difference: number, tieWithin: number): number {
  return Math.abs(difference) <= tieWithin ? 0 : Math.sign(difference);
}

/** Pairs that `a` orders one way by more than `within` and `b` the other way by more than that, as index pairs. */
export function inversions(a: readonly number[], b: readonly number[], within: number): readonly (readonly [number, number])[] {
  const found: [number, number][] = [];
  for (let first = 0; first < a.length; first++)
    for (let second = first + 1; second < a.length; second++)
      if (sign(a[first]! - a[second]!, within) * sign(b[first]! - b[second]!, within) < 0) found.push([first, second]);
  return found;
}
