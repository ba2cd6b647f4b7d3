/** What is known of one answer at its end. */
export interface AnswerVerdict {
  /** Undefined = complete; else what is missing or wrong. */
  readonly problem: string | undefined;
  /** SSE events other than [DONE] and comments; 0 for JSON. */
  readonly events: number;
}

const EVENT_END = "\n\n";
const DONE = Buffer.from("data: [DONE]");
const ERROR_EVENT = Buffer.from('data: {"error"');
const DATA = Buffer.from("data:");
const NOTHING = Buffer.alloc(0);

/**
 * Checks one answer as it arrives, without parsing what it need not: JSON must be whole (it is parsed once in
 * {@link JSON_PARSE_EVERY} answers, else only its ends are looked at), a stream must end in [DONE] and hold no error event.
 */
export class AnswerCheck {
  #isStream = false;
  #pending: Buffer = NOTHING;
  #events = 0;
  #isDone = false;
  #problem: string | undefined;
  #json: Buffer[] = [];

  /** `isStream` = the answer is server-sent events. */
  begin(isStream: boolean): void {
    this.#isStream = isStream;
    this.#pending = NOTHING;
    this.#events = 0;
    this.#isDone = false;
    this.#problem = undefined;
    this.#json = [];
  }

  /** The next bytes. Returns how many events they completed (JSON: 0). */
  push(bytes: Buffer): number {
    if (!this.#isStream) {
      this.#json.push(bytes);
      return 0;
    }
    const before = this.#events;
    let rest = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    for (let end = rest.indexOf(EVENT_END); end >= 0; end = rest.indexOf(EVENT_END)) {
      this.#event(rest, end);
      rest = rest.subarray(end + EVENT_END.length);
    }
    this.#pending = rest;
    return this.#events - before;
  }

  /** The answer is complete by HTTP's rules. `parse` = look into the JSON, too. */
  end(parse: boolean): AnswerVerdict {
    if (this.#isStream) {
      const isWhole = this.#isDone && this.#pending.length === 0;
      return { problem: this.#problem ?? (isWhole ? undefined : "stream without [DONE]"), events: this.#events };
    }
    return { problem: jsonProblem(this.#json, parse), events: 0 };
  }

  #event(bytes: Buffer, end: number): void {
    if (!startsWith(bytes, DATA)) return;
    if (startsWith(bytes, DONE)) this.#isDone = true;
    else if (startsWith(bytes, ERROR_EVENT)) this.#problem ??= `error event: ${bytes.toString("latin1", 0, Math.min(end, 200))}`;
    else if (this.#isDone) this.#problem ??= "data after [DONE]";
    else this.#events++;
  }
}

/** How often a JSON answer is parsed: always would make the generator the bottleneck. */
export const JSON_PARSE_EVERY = 64;

function startsWith(bytes: Buffer, prefix: Buffer): boolean {
  return bytes.length >= prefix.length && bytes.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

function jsonProblem(pieces: readonly Buffer[], parse: boolean): string | undefined {
  const body = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  if (
    body[0] !== 0x7b ||
    body
      .toString("latin1", Math.max(0, body.length - 8))
      .trimEnd()
      .at(-1) !== "}"
  )
    return "body is no JSON object";
  if (!parse) return undefined;
  try {
    const answer = JSON.parse(body.toString("utf8")) as { choices?: unknown };
    return Array.isArray(answer.choices) ? undefined : "body has no choices";
  } catch {
    return "body is not valid JSON";
  }
}
