/** A line longer than this is no line of ours: 8 MiB holds the largest entry and the largest event. */
const LINE_MAX_CHARS = 8 * 1024 * 1024;

/** The lines of a byte stream, without their ends. Throws RangeError on an endless line. */
export async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
    if (rest.length > LINE_MAX_CHARS) throw new RangeError("a line has no end");
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}
