/** Upper bounds of the input-size buckets that latencies of opaque backends are learned in, tokens. */
export const INPUT_BUCKETS: readonly number[] = [256, 1_024, 4_096, 16_384, Number.POSITIVE_INFINITY];

/** Index of the input bucket of a prompt. */
export function inputBucket(tokens: number): number {
  let index = 0;
  while (tokens > INPUT_BUCKETS[index]!) index++;
  return index;
}
