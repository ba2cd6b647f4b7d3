/** Bytes per token of the filler: what the gateway assumes of Latin text before it has learned better. */
const BYTES_PER_TOKEN = 4;

const FILLER = "tell me more ";

/** Says how long prompt and answer are; at the front, so that no two prompts share a first block. */
const MARK = /\[id=(\d+) in=(\d+) out=(\d+)\]/;

/** The user's message of a request: its lengths in front, then filler up to the length of its prompt. */
export function promptOf(id: number, inputTokens: number, outputTokens: number): string {
  const mark = `[id=${id} in=${inputTokens} out=${outputTokens}] `;
  const length = Math.max(mark.length, inputTokens * BYTES_PER_TOKEN);
  return mark + FILLER.repeat(Math.ceil((length - mark.length) / FILLER.length)).slice(0, length - mark.length);
}

/** What a simulated engine reads out of a request's body; undefined = it is not one of ours. */
export function lengthsOf(body: string): { readonly inputTokens: number; readonly outputTokens: number } | undefined {
  const found = MARK.exec(body);
  return found === null ? undefined : { inputTokens: Number(found[2]), outputTokens: Number(found[3]) };
}
