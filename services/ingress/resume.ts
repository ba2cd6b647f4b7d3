import { type Decision, MidStream } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Attempt } from "./attempt.ts";

/** How an interrupted stream goes on elsewhere. */
export interface ResumePlan {
  /** Text the client has; the next backend continues it. */
  readonly prefix: string;
  /** Output tokens the client has. */
  readonly tokens: number;
}

/**
 * Whether and how a stream that broke after its first content may continue on another backend. Undefined = it ends with an
 * error event. Continuing needs the delivered text, which is not kept yet: every stream ends with the error event.
 */
export function resumePlan(decision: Decision, _attempt: Attempt): ResumePlan | undefined {
  if (decision.midStream !== MidStream.RESUME) return undefined;
  return undefined;
}
