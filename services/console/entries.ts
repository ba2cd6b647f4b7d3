import { once } from "node:events";
import { entryJson } from "#libs/money/index.ts";
import type { LedgerPeer } from "#libs/peers/index.ts";
import { type AdminCall, periodOf } from "./call.ts";

/** Streams entries as one JSON object per line. A reader slower than the store makes the store wait; a broken store ends the stream abruptly, so that no half export looks whole. */
export async function sendLedgerEntries(ledger: LedgerPeer, { response, query }: AdminCall): Promise<void> {
  const tenant = query.get("tenant");
  const filter = { ...periodOf(query), ...(tenant ? { tenant } : {}) };
  const batches = ledger.exportEntries(filter)[Symbol.asyncIterator]();
  let next = await batches.next();
  response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
  for (; !next.done; next = await batches.next()) {
    if (response.destroyed) return;
    const lines = next.value.map((entry) => `${JSON.stringify(entryJson(entry))}\n`).join("");
    if (!response.write(lines)) await Promise.race([once(response, "drain"), once(response, "close")]);
  }
  response.end();
}
