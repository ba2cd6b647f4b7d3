import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { moneySuite } from "./money.contract.ts";

// The whole of it, for `npm run test:money`: a quarter of an hour and more. The variables make it shorter.
const scale = (name: string, whole: number): number => Number(process.env[name] ?? whole);

const missing = meshMissing();
if (missing !== undefined) test("the money under kills", { skip: missing }, () => {});
else {
  moneySuite({
    requests: scale("SIGNALBOX_MONEY_REQUESTS", 100_000),
    clients: scale("SIGNALBOX_MONEY_CLIENTS", 72),
    kills: scale("SIGNALBOX_MONEY_KILLS", 20),
    postgresStops: scale("SIGNALBOX_MONEY_POSTGRES_STOPS", 10),
  });
}
