/** What the attempts of one request came to. */
export interface RequestSums {
  /** Of all its attempts, nano-USD. */
  costNanoUsd: number;
  /** Output tokens of its whole answer; 0 = none yet. */
  answerTokens: number;
  /** Whether it got a whole answer. */
  answered: boolean;
  /** Attempts that failed, whoever is to blame. */
  failed: number;
}

/** Before the first attempt's end. */
export function noSums(): RequestSums {
  return { costNanoUsd: 0, answerTokens: 0, answered: false, failed: 0 };
}
