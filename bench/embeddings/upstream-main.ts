import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

// An embedding server that takes its calls one after the other, as a GPU does: 20 ms for each and 0.1 ms for each input in it. What it
// was asked is at GET /figures. Prints `{"port":N}`.

const OVERHEAD_MS = 20;
const ITEM_MS = 0.1;

/** Values of a vector: short, so that the bench is not about JSON. */
const DIMENSIONS = 8;

interface Call {
  readonly inputs: readonly string[];
  readonly response: ServerResponse;
}

const waiting: Call[] = [];
const figures = { calls: 0, items: 0, tokens: 0 };
let isBusy = false;

function next(): void {
  const call = waiting.shift();
  isBusy = call !== undefined;
  if (call === undefined) return;
  setTimeout(
    () => {
      answer(call);
      next();
    },
    OVERHEAD_MS + ITEM_MS * call.inputs.length,
  );
}

function answer({ inputs, response }: Call): void {
  const tokens = inputs.reduce((sum, input) => sum + tokensOf(input), 0);
  figures.calls++;
  figures.items += inputs.length;
  figures.tokens += tokens;
  const embedding = Array.from({ length: DIMENSIONS }, (_, at) => at / DIMENSIONS);
  const data = inputs.map((_, index) => ({ object: "embedding", index, embedding }));
  const usage = { prompt_tokens: tokens, total_tokens: tokens };
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify({ object: "list", model: "embedder", data, usage }));
}

/** Words, as the client counts them too. */
function tokensOf(input: string): number {
  return input.split(" ").length;
}

const server = createServer((request, response) => {
  if (request.url === "/figures") return response.end(JSON.stringify(figures));
  if (request.method !== "POST") return response.writeHead(200).end("{}");
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => void parts.push(part));
  request.on("end", () => {
    const { input } = JSON.parse(Buffer.concat(parts).toString("utf8")) as { input: string | string[] };
    waiting.push({ inputs: typeof input === "string" ? [input] : input, response });
    if (!isBusy) next();
  });
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`));
