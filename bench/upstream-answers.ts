/** Length of the JSON answer, bytes: a short reply with usage. */
const ANSWER_BYTES = 600;

const ID = "chatcmpl-bench0123456789abcdef";
const CREATED = 1_790_000_000;
const MODEL = "bench";
const PROMPT_TOKENS = 250;

function usage(completionTokens: number): object {
  return {
    prompt_tokens: PROMPT_TOKENS,
    completion_tokens: completionTokens,
    total_tokens: PROMPT_TOKENS + completionTokens,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
  };
}

function completion(content: string): string {
  return JSON.stringify({
    id: ID,
    object: "chat.completion",
    created: CREATED,
    model: MODEL,
    choices: [{ index: 0, message: { role: "assistant", content, refusal: null }, logprobs: null, finish_reason: "stop" }],
    usage: usage(30),
  });
}

/** The JSON body, filled up to its length. */
export const answerBody: string = completion("x".repeat(ANSWER_BYTES - completion("").length));

/** The JSON answer, head included. */
export const answerJson: Buffer = response("200 OK", "application/json", answerBody);

/** Answer to anything that is no POST: a model list, which health checks are content with. */
export const MODELS_ANSWER: Buffer = response(
  "200 OK",
  "application/json",
  JSON.stringify({ object: "list", data: [{ id: MODEL, object: "model", created: CREATED, owned_by: "bench" }] }),
);

/** Head of a streamed answer. */
export const answerHead: Buffer = Buffer.from(
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n",
);

/** The first two events, which leave together: the role, and the first token. */
export const roleAndFirst: Buffer = httpChunk(
  event(delta({ role: "assistant", content: "", refusal: null })) + event(delta({ content: "token " })),
);

/** One more token. */
export const nextChunk: Buffer = httpChunk(event(delta({ content: "token " })));

/** The end of a stream: the finish, the usage where it was asked for, [DONE]. */
export function lastChunks(includeUsage: boolean, tokens: number): Buffer {
  const finish = event({ ...base(), choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: "stop" }] });
  const usageEvent = includeUsage ? event({ ...base(), choices: [], usage: usage(tokens) }) : "";
  return Buffer.concat([httpChunk(`${finish}${usageEvent}data: [DONE]\n\n`), Buffer.from("0\r\n\r\n")]);
}

function base(): object {
  return { id: ID, object: "chat.completion.chunk", created: CREATED, model: MODEL };
}

function delta(content: object): object {
  return { ...base(), choices: [{ index: 0, delta: content, logprobs: null, finish_reason: null }] };
}

function event(chunk: object): string {
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

function httpChunk(text: string): Buffer {
  return Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
}

function response(status: string, type: string, body: string): Buffer {
  return Buffer.from(
    `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: keep-alive\r\n\r\n${body}`,
  );
}
