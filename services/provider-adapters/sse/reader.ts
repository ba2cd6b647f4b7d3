import { SseFramer } from "./framer.ts";

/** What a reader calls. */
export interface SseHandler {
  /** One event: its name ("" when none was given) and its data lines joined by line feeds. */
  event(name: string, data: string): void;
  /** An event grew beyond the limit. Once; nothing follows. */
  overflow(): void;
}

/** Reads server-sent events from bytes. */
export interface SseReader {
  /** The next bytes, cut anywhere; calls the handler for every event they complete. */
  push(chunk: Uint8Array): void;
  /**
   * The stream ended. An event whose closing empty line is missing is still handed out, unlike in a browser: providers forget it,
   * and whether it is whole shows in its JSON.
   */
  finish(): void;
}

/** A reader by the rules of the WHATWG's server-sent events; `id` and `retry` are ignored. `maxBytes` bounds one event. */
export function createSseReader(maxBytes: number, handler: SseHandler): SseReader {
  const framer = new SseFramer(maxBytes, {
    block: (bytes) => readEvents(bytes, handler),
    overflow: () => handler.overflow(),
  });
  return {
    push: (chunk) => framer.push(chunk),
    finish: () => {
      const rest = framer.takeRest();
      if (rest.length > 0) readEvents(Buffer.concat([rest, END_OF_EVENT]), handler);
    },
  };
}

const END_OF_EVENT = Buffer.from("\n\n");

/** Reads the events of a block as `SseFramer` puts it out (line feeds only, whole events). */
export function readEvents(block: Buffer, handler: Pick<SseHandler, "event">): void {
  const text = block.toString("utf8");
  let name = "";
  let data: string | undefined;
  let at = 0;
  while (at < text.length) {
    let end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    if (end === at) {
      if (data !== undefined) handler.event(name, data);
      name = "";
      data = undefined;
    } else if (text.startsWith("data", at)) {
      const value = valueOf(text, at + 4, end);
      if (value !== undefined) data = data === undefined ? value : `${data}\n${value}`;
    } else if (text.startsWith("event", at)) {
      name = valueOf(text, at + 5, end) ?? name;
    }
    at = end + 1;
  }
}

/** Value of the line whose field name ends at `at`; undefined when the name goes on, and the line is another field. */
function valueOf(text: string, at: number, end: number): string | undefined {
  if (at === end) return "";
  if (text[at] !== ":") return undefined;
  return text.slice(text[at + 1] === " " ? at + 2 : at + 1, end);
}
