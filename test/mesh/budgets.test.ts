import { test } from "node:test";
import { meshMissing } from "../support/gateway.ts";
import { budgetsSuite } from "./budgets.contract.ts";

const missing = meshMissing();
if (missing === undefined) budgetsSuite(4);
else test("hard budgets over three ingresses", { skip: missing }, () => {});
