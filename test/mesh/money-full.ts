import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { moneySuite } from "./money.contract.ts";

// The whole of it, for `npm run test:money`: a quarter of an hour and more.
const missing = meshMissing();
if (missing === undefined) moneySuite({ requests: 100_000, kills: 20, postgresStops: 10 });
else test("the money under kills", { skip: missing }, () => {});
