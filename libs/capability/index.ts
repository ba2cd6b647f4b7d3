export { CAPABILITY_BITS, fitsContext, maskOf, missingFrom } from "./capability.ts";
