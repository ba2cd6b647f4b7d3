export { type FramerOutput, SseFramer } from "./framer.ts";
export { createSseReader, readEvents, type SseHandler, type SseReader } from "./reader.ts";
