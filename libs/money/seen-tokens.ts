/** UTF-8 bytes of a token, about, over languages and code. */
const BYTES_PER_TOKEN = 4;
/** Events of at most so many bytes on average hold one token each: two tokens in each would be eight or nine. */
const SINGLE_TOKEN_BYTES = 7;

/**
 * Output tokens of an answer whose provider has not stated them, by what arrived of it: its events, where each is small enough to
 * be one token, which is exact for most engines; else its bytes, though never fewer than its events.
 */
export function seenTokens(contentEvents: number, contentBytes: number): number {
  if (contentEvents > 0 && contentBytes <= contentEvents * SINGLE_TOKEN_BYTES) return contentEvents;
  return Math.max(contentEvents, Math.ceil(contentBytes / BYTES_PER_TOKEN));
}

/**
 * The same for an answer of which nothing can have arrived because it comes whole: what a backend of this speed made in the time.
 * An estimate; 0 where no speed is known.
 */
export function tokensIn(elapsedMs: number, ttftMs: number, tpotMs: number): number {
  if (!(tpotMs > 0) || !(ttftMs > 0) || elapsedMs <= ttftMs) return 0;
  return 1 + Math.floor((elapsedMs - ttftMs) / tpotMs);
}
