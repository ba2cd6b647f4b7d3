import { test } from "node:test";
import pg from "pg";
import { financeSuite } from "../integration/finance.contract.ts";
import { meshMissing } from "../support/gateway.ts";

const missing = meshMissing();
if (missing !== undefined) test("finance over the mesh", { skip: missing }, () => {});
else
  financeSuite("mesh", async (gateway) => {
    const client = new pg.Client({ connectionString: gateway.postgres!.url });
    await client.connect();
    await client.query("DROP TRIGGER entries_append_only ON entries");
    await client.query("UPDATE entries SET cost_nano_usd = cost_nano_usd + 1 WHERE sequence = 7");
    await client.end();
  });
