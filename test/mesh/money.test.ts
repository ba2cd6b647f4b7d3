import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { moneySuite } from "./money.contract.ts";

const missing = meshMissing();
if (missing === undefined) moneySuite({ requests: 2_000, clients: 24, kills: 2, postgresStops: 1 });
else test("the money under kills", { skip: missing }, () => {});
