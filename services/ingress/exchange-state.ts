import type { SignalboxError } from "#libs/errors/index.ts";
import type { Attempt } from "./attempt.ts";

/** Where a request stands. Every transition is an assignment in dispatch.ts. */
export type ExchangeState =
  | { readonly kind: "deciding" }
  /** Attempts run (or wait for their intent); nothing of theirs has left for the client. */
  | { readonly kind: "trying" }
  /** Waits before the same backends are asked again. */
  | { readonly kind: "pausing" }
  /** Content of this attempt went to the client: another backend can only continue it. */
  | { readonly kind: "answering"; readonly attempt: Attempt }
  | { readonly kind: "done"; readonly status: number; readonly error: SignalboxError | undefined };
