import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { answerJson, answerHead, roleAndFirst, nextChunk, lastChunks, MODELS_ANSWER } from "./upstream-answers.ts";

/** Tokens (one chunk each) of an answer whose request sets no max_tokens. */
const DEFAULT_CHUNKS = 50;

/** Chunks of one answer at most, whatever a request asks for. */
const CHUNKS_MAX = 10_000;

/** Time between chunks on the paced port, ms: 25 tokens a second, as a busy GPU gives. */
const PACED_GAP_MS = 40;

const HEAD_END = "\r\n\r\n";
const NOTHING = Buffer.alloc(0);

interface Stream {
  readonly socket: Socket;
  readonly includeUsage: boolean;
  readonly chunks: number;
  sent: number;
  done(): void;
}

/** Streams under way without pace: each gets one chunk a turn of the event loop, in a write of its own. */
const unpaced = new Set<Stream>();
let isPumping = false;

function pump(): void {
  for (const stream of unpaced) if (!advance(stream)) unpaced.delete(stream);
  isPumping = unpaced.size > 0;
  if (isPumping) setImmediate(pump);
}

/** Writes the next chunk; false = that was the last, or nobody listens. */
function advance(stream: Stream): boolean {
  if (stream.socket.destroyed) return false;
  stream.sent++;
  if (stream.sent <= stream.chunks) {
    stream.socket.write(nextChunk);
    return true;
  }
  stream.socket.write(lastChunks(stream.includeUsage, stream.chunks));
  stream.done();
  return false;
}

function startStream(stream: Stream, gapMs: number): void {
  stream.socket.write(roleAndFirst);
  stream.sent = 1;
  if (gapMs === 0) {
    unpaced.add(stream);
    if (!isPumping) {
      isPumping = true;
      setImmediate(pump);
    }
    return;
  }
  const timer = setInterval(() => {
    if (!advance(stream)) clearInterval(timer);
  }, gapMs);
}

/** Serves one connection: requests one after the other, keep-alive. */
function serve(socket: Socket, gapMs: number): void {
  let pending: Buffer = NOTHING;
  let isStreaming = false;
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  const next = (): void => {
    while (!isStreaming) {
      const headEnd = pending.indexOf(HEAD_END);
      if (headEnd < 0) return;
      const head = pending.toString("latin1", 0, headEnd);
      const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
      const end = headEnd + HEAD_END.length + length;
      if (pending.length < end) return;
      const body = pending.subarray(headEnd + HEAD_END.length, end);
      pending = pending.subarray(end);
      isStreaming = answer(head, body);
    }
  };
  /** Answers one request; true = a stream goes on. */
  const answer = (head: string, body: Buffer): boolean => {
    if (head.startsWith("GET")) {
      socket.write(MODELS_ANSWER);
      return false;
    }
    const limit = Number(/"max_(?:completion_)?tokens": ?(\d+)/.exec(body.toString("latin1"))?.[1] ?? DEFAULT_CHUNKS);
    if (!/"stream": ?true/.test(body.toString("latin1"))) {
      socket.write(answerJson);
      return false;
    }
    socket.write(answerHead);
    const done = (): void => {
      isStreaming = false;
      next();
    };
    const includeUsage = /"include_usage": ?true/.test(body.toString("latin1"));
    startStream({ socket, includeUsage, chunks: Math.max(1, Math.min(limit, CHUNKS_MAX)), sent: 0, done }, gapMs);
    return true;
  };
  socket.on("data", (bytes: Buffer) => {
    pending = pending.length === 0 ? bytes : Buffer.concat([pending, bytes]);
    next();
  });
}

/** Starts the fake upstream on a free loopback port; `gapMs` between chunks, 0 = as fast as they go. */
export function startUpstream(gapMs: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => serve(socket, gapMs));
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => resolve(server));
  });
}

/** Port a server listens on. */
export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

if (import.meta.main) {
  const [fast, paced] = await Promise.all([startUpstream(0), startUpstream(PACED_GAP_MS)]);
  process.stdout.write(`${JSON.stringify({ port: portOf(fast), pacedPort: portOf(paced) })}\n`);
}
