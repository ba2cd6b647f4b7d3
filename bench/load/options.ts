/** What one load run does. Plain data: it travels to a child process as JSON. */
export interface LoadOptions {
  readonly host: string;
  readonly port: number;
  readonly tls?: boolean;
  readonly path: string;
  /** Besides host, content-type, content-length. */
  readonly headers: Readonly<Record<string, string>>;
  /** JSON request body. */
  readonly body: string;
  /** Whether the answer is expected to be server-sent events. */
  readonly stream: boolean;
  readonly pace: Pace;
  /** What is sent before measuring begins, ms. */
  readonly warmupMs: number;
  readonly durationMs: number;
}

/**
 * Closed: as many requests are under way as there are connections, the next begins when one ends. Open: requests begin at their
 * intended times whatever happened to earlier ones, and their latency counts from the intended time, so that a stalled server is
 * not spared the requests it kept waiting (coordinated omission).
 */
export type Pace = { readonly kind: "closed"; readonly concurrency: number } | { readonly kind: "open"; readonly rps: number };

/** Size of a chat request. */
export interface ChatShape {
  readonly model: string;
  readonly stream: boolean;
  readonly promptTokens: number;
  /** Output limit, tokens; undefined = none. */
  readonly maxTokens?: number;
}

/** English text is about four characters a token. */
const CHARACTERS_PER_TOKEN = 4;

const FILLER = "the quick brown fox jumps over the lazy dog and then ";

/** An OpenAI chat request of that size. */
export function chatBody(shape: ChatShape): string {
  const length = Math.max(1, shape.promptTokens) * CHARACTERS_PER_TOKEN;
  return JSON.stringify({
    model: shape.model,
    messages: [{ role: "user", content: FILLER.repeat(Math.ceil(length / FILLER.length)).slice(0, length) }],
    ...(shape.maxTokens === undefined ? {} : { max_tokens: shape.maxTokens }),
    ...(shape.stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
}

/** The bytes of one request. */
export function requestBytes(options: LoadOptions): Buffer {
  const headers = Object.entries(options.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const length = Buffer.byteLength(options.body);
  const head = `POST ${options.path} HTTP/1.1\r\nhost: ${options.host}:${options.port}\r\ncontent-type: application/json\r\n`;
  return Buffer.from(`${head}content-length: ${length}\r\n${headers.join("")}\r\n${options.body}`);
}
