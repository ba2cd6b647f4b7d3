export { FIELD_STRIDE, scanElements, scanTopLevel } from "./scan.ts";
export { type Fields, fieldValue, findField, spliceTopLevel } from "./splice.ts";
