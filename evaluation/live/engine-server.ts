import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { SimulatedEngine } from "../engine.ts";
import { metricsOf } from "../monitor.ts";
import { lengthsOf } from "./prompt.ts";

/** A simulated engine behind HTTP, in vLLM's words: streamed chat completions, gauges, health. Resolves with its port. */
export async function serveEngine(engine: SimulatedEngine): Promise<{ readonly port: number; readonly server: Server }> {
  const server = createServer((request, response) => {
    if (request.method === "POST" && request.url === "/v1/chat/completions")
      return readAll(request, (body) => chat(engine, body, response));
    request.resume();
    if (request.url === "/metrics") return response.writeHead(200, { "content-type": "text/plain" }).end(metricsOf(engine));
    response.writeHead(request.url === "/health" ? 200 : 404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, server };
}

function readAll(request: IncomingMessage, use: (body: string) => void): void {
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => void parts.push(part));
  request.on("end", () => use(Buffer.concat(parts).toString("utf8")));
}

const CHUNK_HEAD = 'data: {"id":"chatcmpl-live","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[';
const TOKEN = `${CHUNK_HEAD}{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n`;
const FINISH = `${CHUNK_HEAD}{"index":0,"delta":{},"finish_reason":"length"}]}\n\n`;

function chat(engine: SimulatedEngine, body: string, response: ServerResponse): void {
  const lengths = lengthsOf(body);
  if (lengths === undefined) {
    response.writeHead(400, { "content-type": "application/json" });
    return void response.end('{"object":"error","message":"the prompt does not say its lengths","type":"BadRequestError","code":400}');
  }
  const { inputTokens, outputTokens } = lengths;
  let cached = 0;
  const withdraw = engine.submit({
    inputTokens,
    outputTokens,
    blocks: [],
    priority: 0,
    onFirstToken: (cachedTokens) => {
      cached = cachedTokens;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(TOKEN);
    },
    onToken: () => void response.write(TOKEN),
    onDone: () => {
      const usage = `"prompt_tokens":${inputTokens},"completion_tokens":${outputTokens},"total_tokens":${inputTokens + outputTokens}`;
      const details = `"prompt_tokens_details":{"cached_tokens":${cached}}`;
      response.end(`${FINISH}${CHUNK_HEAD}],"usage":{${usage},${details}}}\n\ndata: [DONE]\n\n`);
    },
  });
  response.once("close", withdraw);
}
