/** Bytes of UTF-8 that make one token in the simulated tokeniser. */
export const BYTES_PER_TOKEN = 4;

/** Tokens a message costs beside its text: role and separators. */
export const TOKENS_PER_MESSAGE = 4;

/** Tokens of one block of the prefix cache. */
export const BLOCK_TOKENS = 64;

/** Tokens an image costs, whatever its size: about one low-detail tile. */
export const TOKENS_PER_IMAGE = 85;

/** Tokens of a text: bytes / 4, rounded up. */
export function tokensOf(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
}

/** Mixes the visible characters of `text` into `hash` (FNV-1a); white space is skipped, so that dialects that join texts differently agree. */
export function hashText(hash: number, text: string): number {
  let mixed = hash;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit > 0x20) mixed = Math.imul(mixed ^ unit, 16777619);
  }
  return mixed | 0;
}

/** Start value of {@link hashText}. */
export const HASH_START = 0x811c9dc5 | 0;

/** Collects a prompt: its tokens, its text for the prefix cache, and the seed of the answer. */
export class PromptMeter {
  tokens = 0;
  seed = HASH_START;
  text = "";

  message(): void {
    this.tokens += TOKENS_PER_MESSAGE;
  }

  /** Adds text of the conversation: counted, cached, and part of the answer's seed. */
  add(text: string): void {
    this.tokens += tokensOf(text);
    this.text += text;
    this.seed = hashText(this.seed, text);
  }

  /** Adds text the model reads but that dialects write differently (tool schemas, calls): counted and cached, not part of the seed. */
  addUnseeded(text: string): void {
    this.tokens += tokensOf(text);
    this.text += text;
  }

  image(url: string): void {
    this.tokens += TOKENS_PER_IMAGE;
    this.text += `[image ${url.length} ${url.slice(-32)}]`;
  }
}
