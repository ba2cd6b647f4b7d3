import { fnv1a32 } from "#libs/statistics/index.ts";

/**
 * The one experiment of a layer a unit may take part in (rendezvous hashing): a new experiment takes its fair part of the units
 * from each of the others and moves nobody else. -1 without any.
 */
export function experimentOfUnit(layer: string, names: readonly string[], unit: string): number {
  if (names.length < 2) return names.length - 1;
  let best = -1;
  let highest = -1;
  for (let index = 0; index < names.length; index++) {
    const score = fnv1a32(String(fnv1a32(`${layer}/${names[index]!}/${unit}`)));
    if (score <= highest) continue;
    best = index;
    highest = score;
  }
  return best;
}
