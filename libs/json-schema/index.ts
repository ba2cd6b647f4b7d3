export { isSame, keepsToSchema } from "./check.ts";
