import { traceSuite } from "./trace.contract.ts";

traceSuite("embedded");
