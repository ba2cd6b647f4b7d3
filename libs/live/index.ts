export { LiveMap } from "./live-map.ts";
export { Slots } from "./slots.ts";
