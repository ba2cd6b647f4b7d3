import type { AttemptData, AttemptEnd, AttemptOpen } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { AttemptHandle, AttemptSink, CancelReason } from "#libs/peers/index.ts";
import { cancelledEnding } from "../attempt-end.ts";
import { attemptError, usageOf } from "../codec.ts";
import type { Member } from "./member.ts";
import { answerOf, type Merged, merge, readVectors, splitTokens } from "./merge.ts";

/** HTTP statuses by which a provider refuses what was sent, so that one input may have spoiled a call for all. */
const REFUSALS = new Set([400, 413, 422]);

/** Starts an upstream call; undefined = the backend has no room. */
export type StartCall = (open: AttemptOpen, sink: AttemptSink) => AttemptHandle | undefined;

/** One call upstream for one or more members. */
export class SharedCall implements AttemptSink {
  readonly members: readonly Member[];
  readonly #model: string;
  readonly #nowMs: () => number;
  readonly #onEnd: (call: SharedCall, refused: boolean) => void;
  readonly #merged: Merged | undefined;
  #handle: AttemptHandle | undefined;
  #pieces: Uint8Array[] = [];

  constructor(members: readonly Member[], model: string, nowMs: () => number, onEnd: (call: SharedCall, refused: boolean) => void) {
    this.members = members;
    this.#model = model;
    this.#nowMs = nowMs;
    this.#onEnd = onEnd;
    // A single request goes as it came.
    if (members.length > 1)
      this.#merged = merge(
        model,
        members.map(({ request }) => request),
      );
  }

  /** False when the backend has no room. */
  start(start: StartCall): boolean {
    this.#handle = start(this.#open(), this);
    return this.#handle !== undefined;
  }

  /** A member left: the call goes on for the others, and for nobody it ends. */
  left(reason: CancelReason): void {
    if (this.members.every((member) => member.reason !== undefined)) this.#handle?.cancel(reason);
  }

  data(data: AttemptData): void {
    this.#pieces.push(data.data);
    this.#handle?.consumed(data.data.length);
  }

  end(end: AttemptEnd): void {
    const refused =
      end.outcome === Outcome.FAILED && this.members.length > 1 && REFUSALS.has(end.error?.httpStatus ?? 0) && !end.error!.busy;
    this.#onEnd(this, refused);
    if (refused) return;
    if (end.outcome === Outcome.OK) this.#answer(end);
    else for (const member of this.members) member.finish(this.#endOf(member, end));
  }

  #open(): AttemptOpen {
    const first = this.members[0]!.open;
    const merged = this.#merged;
    if (merged === undefined) return first;
    const most = (read: (open: AttemptOpen) => number): number => Math.max(...this.members.map(({ open }) => read(open)));
    const endless = this.members.some(({ open }) => open.deadlineMs === 0);
    return {
      ...first,
      // Named after its first member: what an invoice shows for all of them.
      attemptId: `${first.attemptId}+${this.members.length - 1}`,
      body: merged.body as Uint8Array<ArrayBuffer>,
      fields: [],
      deadlineMs: endless ? 0 : most(({ deadlineMs }) => deadlineMs),
      connectTimeoutMs: most(({ connectTimeoutMs }) => connectTimeoutMs),
      firstTokenTimeoutMs: most(({ firstTokenTimeoutMs }) => firstTokenTimeoutMs),
      idleTimeoutMs: most(({ idleTimeoutMs }) => idleTimeoutMs),
    };
  }

  #answer(end: AttemptEnd): void {
    const answer = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
    this.#pieces = [];
    const merged = this.#merged;
    if (merged === undefined) return this.#deliver(this.members[0]!, answer, end);
    const vectors = readVectors(answer, merged.inputs.length);
    if (vectors === undefined) {
      const error = attemptError("UPSTREAM_PROTOCOL", "The provider's answer is not one embedding for each input.", { httpStatus: 200 });
      for (const member of this.members) member.finish(this.#endOf(member, { ...end, outcome: Outcome.FAILED, error }));
      return;
    }
    const tokens = splitTokens(end.usage?.inputTokens ?? 0, merged);
    for (const [index, member] of this.members.entries()) {
      const own = tokens[index]!;
      const bytes = answerOf(
        merged.places[index]!.map((place) => vectors[place]!),
        end.upstreamModel || this.#model,
        own,
      );
      this.#deliver(member, bytes, { ...end, usage: usageOf({ ...end.usage, inputTokens: own }) });
    }
  }

  #deliver(member: Member, bytes: Uint8Array, end: AttemptEnd): void {
    const own = this.#endOf(member, { ...end, contentBytes: end.usageKnown ? bytes.length : 0 });
    if (member.reason === undefined) member.answer(bytes, own);
    else member.finish(own);
  }

  /** The call's end as one member's: who left is told so, with what was used for it, because it is billed. */
  #endOf(member: Member, end: AttemptEnd): AttemptEnd {
    const waitedMs = Math.max(0, this.#nowMs() - member.startMs - end.durationMs);
    const timed: AttemptEnd = {
      ...end,
      ttftMs: end.ttftMs > 0 ? end.ttftMs + waitedMs : 0,
      headersMs: end.headersMs > 0 ? end.headersMs + waitedMs : 0,
      durationMs: end.durationMs + waitedMs,
    };
    if (member.reason === undefined) return timed;
    const { outcome, error } = cancelledEnding(member.reason);
    return error === undefined ? { ...timed, outcome } : { ...timed, outcome, error };
  }
}
