export { FIELD_STRIDE, scanTopLevel } from "./scan.ts";
export { type Fields, fieldValue, findField, spliceTopLevel } from "./splice.ts";
