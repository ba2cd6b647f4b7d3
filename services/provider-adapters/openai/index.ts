export { openaiCodec } from "./api.ts";
