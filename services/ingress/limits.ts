/** Longest model name accepted, characters: the longest published ones stay below 120. */
export const MODEL_NAME_MAX = 256;

/** Deepest nesting of a request body. JSON schemas of real tools stay below 30; recursion in translators is safe at this depth. */
export const JSON_DEPTH_MAX = 128;

/** Most messages in one request: long agent runs reach hundreds. */
export const MESSAGES_MAX = 10_000;

/** Most tools in one request: OpenAI allows 128, engines more. */
export const TOOLS_MAX = 1_024;

/** Most inputs of one embeddings request (OpenAI reference). */
export const EMBEDDING_INPUTS_MAX = 2_048;

/** Largest token id: vocabularies stay below a million. */
export const TOKEN_ID_MAX = 0x7fff_ffff;

/** Most tags of one request, from the header and from `metadata` together (the policy engine's own bound). */
export const TAGS_MAX = 16;

/** Longest tag name, characters: it becomes a column of the ledger's sums. */
export const TAG_NAME_MAX = 64;

/** Longest tag value, characters. */
export const TAG_VALUE_MAX = 128;

/** Longest key accepted in a header, characters; ours have about 50. */
export const KEY_MAX = 512;

/** Longest idempotency key, characters (decision 28). */
export const IDEMPOTENCY_KEY_MAX = 255;

/** How long an idempotent answer is kept, ms (decision 28). */
export const IDEMPOTENCY_TTL_MS = 600_000;

/** Largest idempotent answer kept, bytes (decision 28). */
export const IDEMPOTENCY_ANSWER_MAX_BYTES = 1024 * 1024;

/** All idempotent answers together, bytes (decision 28). */
export const IDEMPOTENCY_TOTAL_MAX_BYTES = 64 * 1024 * 1024;

/** Largest idempotent answer shared with other ingresses, bytes: what one message of the bus (1 MiB) holds beside its facts. */
export const IDEMPOTENCY_SHARED_MAX_BYTES = 1_000_000;

/** How long the bus may take to say who makes an answer, ms: beyond it a request goes on alone rather than wait. */
export const IDEMPOTENCY_CLAIM_WAIT_MS = 500;

/** A claim that its ingress does not renew is free again after this, ms; renewed three times as often. */
export const IDEMPOTENCY_CLAIM_TTL_MS = 6_000;
export const IDEMPOTENCY_CLAIM_RENEW_MS = 2_000;

/** How often a request that waits for another ingress looks by itself, ms: the word that it is done may be lost. */
export const IDEMPOTENCY_LOOK_MS = 1_000;

/** Idempotency keys held at once: bounds the map when answers are tiny. */
export const IDEMPOTENCY_KEYS_MAX = 100_000;

/** Requests that wait for one running answer of the same idempotency key. */
export const IDEMPOTENCY_FOLLOWERS_MAX = 256;

/** Mean lateness of the event loop from which requests are refused, ms: above it every stream stutters, and more load only adds to it. */
export const LAG_SHED_MS = 250;

/** The same for requests of the batch class, ms: nobody waits for those. */
export const LAG_SHED_BATCH_MS = 100;

/** Requests in dispatch below which a late loop is not their doing (a start, another process): refusing them would help nobody. */
export const LAG_SHED_MIN_REQUESTS = 32;

/** When a request refused for that may come again, ms: the lag is measured over a second. */
export const LAG_RETRY_MS = 1_000;

/** Answers shared at once by identical requests; further requests go alone. */
export const FLIGHTS_MAX = 10_000;

/** Requests that share one answer. */
export const FLIGHT_PASSENGERS_MAX = 256;

/** Of a shared answer kept for those who come late or read slowly, bytes: 1 MiB holds some 5,000 streamed tokens. */
export const FLIGHT_BUFFER_MAX_BYTES = 1024 * 1024;

/** Bodies held in memory by all requests together, bytes: beyond it new ones are refused as a full queue. */
export const BODIES_TOTAL_MAX_BYTES = 512 * 1024 * 1024;

/** Largest whole (not streamed) answer collected before it is sent, bytes: 128k tokens of text are about 1 MiB. */
export const ANSWER_MAX_BYTES = 64 * 1024 * 1024;

/** How long a stream may stay silent before it gets a comment, ms: below the idle limits of common proxies (30 to 60 s). */
export const KEEP_ALIVE_MS = 15_000;

/** Bytes a response may queue before the upstream is held back; with the attempt's window it bounds memory per stream. */
export const RESPONSE_QUEUE_BYTES = 16 * 1024;

/** Period of the wheel that watches time limits, ms: coarse, because every limit on it is a second or more. */
export const WHEEL_TICK_MS = 50;

/** What an attempt gets beyond its own time limit before the ingress gives it up by itself, ms: the adapter comes first. */
export const ATTEMPT_GRACE_MS = 500;

/** Least time left that is worth another attempt, ms. */
export const ATTEMPT_WORTH_MS = 20;

/** Times a request asks the policy engine again after its candidates are spent. */
export const REDECIDE_MAX = 4;

/** Backends tried and found busy or unserved before the request gives up: they cost nothing, so they need a bound of their own. */
export const SKIPS_MAX = 16;

/** First back-off before the same backend is tried again, ms; doubles, with full jitter (routing, 1.5). */
export const BACKOFF_BASE_MS = 100;

/** Longest back-off, ms. */
export const BACKOFF_MAX_MS = 5_000;

/** First and longest wait before a full backend is asked for again, ms: engines tell each other of their load every 50 ms. */
export const BUSY_PAUSE_MS = 100;
export const BUSY_PAUSE_MAX_MS = 1_000;

/** Gap samples per attempt: one each so many ms (decision 8). */
export const GAP_SAMPLE_MS = 100;

/** Idle keep-alive time of client connections, ms: longer than the 60 s that balancers keep theirs. */
export const CONNECTION_IDLE_MS = 65_000;

/** How often node looks for slow headers and bodies, ms: node's default of 30 s would let them live four times as long. */
export const SLOW_CHECK_MS = 500;

/** TCP keep-alive delay, ms: finds clients that vanished without a word. */
export const TCP_KEEP_ALIVE_MS = 15_000;

/** How long a refused upload is drained so that its sender reads the answer before the connection closes, ms. */
export const LINGER_MS = 500;

/** Unread request bytes node may drain after an early answer; a longer body costs its connection. */
export const UNREAD_DRAIN_BYTES = 64 * 1024;

/** How often replicas ask for control state, ms (decision: control state). */
export const CONTROL_POLL_MS = 2_000;

/** Info lines per second for requests that went well; failures are always logged (decision 30). */
export const LOG_LINES_PER_S = 100;

/** Time kept back at the end of a drain, ms, to end streams with an error event and settle them. */
export const DRAIN_TAIL_MS = 500;

/** Output tokens reserved when neither the caller, the candidate nor the backend names a limit (decision 27). */
export const OUTPUT_RESERVE_TOKENS = 8_192;

/** Prompt bytes hashed whole for its prefix: about a nanosecond each. Behind them samples are. */
export const PREFIX_WHOLE_BYTES = 64 * 1024;

/** Prompt bytes that take part in prefix hashes at all: 131,072 tokens, what most models take. 188 hashes. */
export const PREFIX_MAX_BYTES = 512 * 1024;

/** Prompt bytes behind the first 64 KiB that count per token: beyond that they are pictures and files, which are few tokens. */
export const PREFIX_BYTES_PER_TOKEN = 6;

/** How long a start waits for keys and prices, ms: a dependency that is away must not hold the door shut. */
export const START_WAIT_MS = 300;

/** How long a start waits for the first adapter and the first policy engine, ms: they are there within moments, or not at all. */
export const PEERS_WAIT_MS = 3_000;

/** How often it looks for them, ms. */
export const PEERS_LOOK_MS = 10;
