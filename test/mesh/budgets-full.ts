import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { budgetsSuite } from "./budgets.contract.ts";

// The whole of it, for `npm run test:budgets`.
const missing = meshMissing();
if (missing === undefined) budgetsSuite(100);
else test("hard budgets over three ingresses", { skip: missing }, () => {});
