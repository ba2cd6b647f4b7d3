import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "#libs/clock/index.ts";

/** A recorded answer and how to play it. */
export interface Recording {
  readonly status?: number;
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
  /** Sizes of the chunks it is written in, used in turn; absent = in one. */
  readonly chunkBytes?: readonly number[];
  /** Ms between chunks. Default 0: the next turn of the event loop. */
  readonly gapMs?: number;
  /** How it ends. Default `end`; `cut` = FIN without the end of the body, `reset` = RST, `silence` = never. */
  readonly ending?: "end" | "cut" | "reset" | "silence";
}

/** Lines of a `*.chunks.txt` recording as an SSE body. `named`: each event carries its JSON `type` as the event's name, as Anthropic's do. */
export function sseOf(lines: string, named: boolean, done: boolean): string {
  let text = "";
  for (const line of lines.split("\n")) {
    if (line.trim() === "") continue;
    const name = named ? /"type":\s*"([a-z_.]+)"/.exec(line)?.[1] : undefined;
    text += `${name === undefined ? "" : `event: ${name}\n`}data: ${line}\n\n`;
  }
  return done ? `${text}data: [DONE]\n\n` : text;
}

/** An HTTP handler that answers every request with a recording. */
export function replay(recording: Recording, clock: Clock): (request: IncomingMessage, response: ServerResponse) => void {
  const bytes = Buffer.from(recording.body);
  const sizes = recording.chunkBytes ?? [bytes.length];
  return (request, response) => {
    request.resume();
    response.writeHead(recording.status ?? 200, { "content-type": recording.contentType ?? "application/json", ...recording.headers });
    let at = 0;
    let turn = 0;
    const next = (): void => {
      if (response.destroyed) return;
      if (at >= bytes.length) return finish(response, recording.ending ?? "end");
      const size = Math.max(1, sizes[turn++ % sizes.length]!);
      response.write(bytes.subarray(at, at + size));
      at += size;
      clock.after(recording.gapMs ?? 0, next);
    };
    next();
  };
}

function finish(response: ServerResponse, ending: NonNullable<Recording["ending"]>): void {
  if (ending === "end") response.end();
  else if (ending === "cut") response.write("", () => response.socket?.destroySoon());
  else if (ending === "reset") response.write("", () => response.socket?.resetAndDestroy());
}
