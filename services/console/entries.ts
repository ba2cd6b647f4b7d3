import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { entryJson } from "#libs/money/index.ts";
import type { Entry, LedgerPeer } from "#libs/peers/index.ts";
import { type AdminCall, periodOf } from "./call.ts";

/** Streams entries as one JSON object per line. A reader slower than the store makes the store wait; a broken store ends the stream abruptly, so that no half export looks whole. */
export async function sendLedgerEntries(ledger: LedgerPeer, { response, query }: AdminCall): Promise<void> {
  const tenant = query.get("tenant");
  const batches = ledger.exportEntries({ ...periodOf(query), ...(tenant ? { tenant } : {}) })[Symbol.asyncIterator]();
  // The first batch decides between an error answer and an export.
  const first = await batches.next();
  response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  await pipeline(Readable.from(lines(first, batches)), response);
}

async function* lines(first: IteratorResult<readonly Entry[]>, batches: AsyncIterator<readonly Entry[]>): AsyncGenerator<string> {
  for (let next = first; !next.done; next = await batches.next())
    yield next.value.map((entry) => `${JSON.stringify(entryJson(entry))}\n`).join("");
}
