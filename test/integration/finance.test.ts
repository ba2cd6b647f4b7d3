import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { financeSuite } from "./finance.contract.ts";

financeSuite("embedded", (gateway) => {
  const database = new DatabaseSync(join(gateway.dir, "ledger.db"));
  database.exec("DROP TRIGGER entries_no_update; UPDATE entries SET cost_nano_usd = cost_nano_usd + 1 WHERE sequence = 7");
  database.close();
  return Promise.resolve();
});
