import { create, toBinary } from "@bufbuild/protobuf";
import { type Candidate, CandidateSchema } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { TERMS } from "./answer.ts";

/** Backends whose forms are kept, some 500 bytes each; hardly anybody has as many, and beyond that all are made anew. */
const FORMS_MAX = 4_096;

/** Tag and value of a double. */
const DOUBLE_BYTES = 9;

/** Fields of a candidate that are doubles. */
const DOUBLES = [2, 3, 8, 10, 15] as const;

/**
 * What of a candidate's record takes up the same bytes each time: its backend's names, and all doubles with their tags and the terms'
 * names. Only the doubles themselves are put in for a record, so that most of it is one copy.
 */
interface CandidateForm extends Pick<Candidate, "upstreamModel" | "provider"> {
  readonly bytes: Uint8Array;
  /** The beginning of `bytes`. */
  readonly withoutTerms: Uint8Array;
  readonly view: DataView;
  /** Where the values stand: of the first double, of the first term. */
  readonly doublesAt: number;
  readonly termsAt: number;
}

const forms = new Map<string, CandidateForm>();

/** Its backend's form with its doubles put in. Good until the next call. */
export function formOf(candidate: Candidate): CandidateForm {
  let form = forms.get(candidate.backend);
  if (form === undefined || form.upstreamModel !== candidate.upstreamModel || form.provider !== candidate.provider)
    form = makeForm(candidate);
  const { view, doublesAt } = form;
  view.setFloat64(doublesAt, candidate.predictedTtftMs, true);
  view.setFloat64(doublesAt + DOUBLE_BYTES, candidate.predictedTpotMs, true);
  view.setFloat64(doublesAt + 2 * DOUBLE_BYTES, candidate.score, true);
  view.setFloat64(doublesAt + 3 * DOUBLE_BYTES, candidate.firstTokenTimeoutMs, true);
  view.setFloat64(doublesAt + 4 * DOUBLE_BYTES, candidate.hedgeAfterMs, true);
  return form;
}

/** Puts the terms in that stand in `terms` from a place on. */
export function fillTerms({ view, termsAt }: CandidateForm, terms: readonly number[], from: number): void {
  for (let at = 0; at < TERMS.length; at++) view.setFloat64(termsAt + TERM_OFFSETS[at]!, terms[from + at] ?? 0, true);
}

function makeForm({ backend, upstreamModel, provider }: Candidate): CandidateForm {
  const names = toBinary(CandidateSchema, create(CandidateSchema, { backend, upstreamModel, provider }));
  const doubles = DOUBLES.map((field) => Buffer.concat([Buffer.of((field << 3) | 1)], DOUBLE_BYTES));
  const bytes = Buffer.concat([names, ...doubles, ...TERM_ENTRIES]);
  const termsAt = names.length + DOUBLES.length * DOUBLE_BYTES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const form = { upstreamModel, provider, bytes, withoutTerms: bytes.subarray(0, termsAt), view, doublesAt: names.length + 1, termsAt };
  if (forms.size >= FORMS_MAX) forms.clear();
  forms.set(backend, form);
  return form;
}

/** Field 16 of a candidate, a map from names to doubles: one entry for each term. */
const TERM_ENTRIES = TERMS.map((name) => {
  const key = Buffer.from(name);
  return Buffer.from([0x82, 0x01, key.length + 11, 0x0a, key.length, ...key, 0x11, 0, 0, 0, 0, 0, 0, 0, 0]);
});

/** Where the values of the terms stand behind each other: at the end of their entries. */
const TERM_OFFSETS = TERM_ENTRIES.map((_, at) => Buffer.concat(TERM_ENTRIES.slice(0, at + 1)).length - 8);
