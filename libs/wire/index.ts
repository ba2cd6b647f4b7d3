export { type Codec, codecOf } from "./codec.ts";
export { usage } from "./usage.ts";
export {
  beginMessage,
  bool,
  bytes,
  closeMessage,
  double,
  element,
  endMessage,
  FIELD_BYTES,
  int32,
  int64,
  openMessage,
  raw,
  text,
  textMap,
  uint,
  UTF8_PER_UNIT,
} from "./writer.ts";
