export { CAPABILITY_BITS, fitsContext, maskOf, missingFrom, onlyEmbeds } from "./capability.ts";
export { contextRefusal, lackOf, paramAtFault, reasonsOf, type Refusal, TOO_DEAR, TRIED } from "./refusal.ts";
