import type { Decision } from "#gen/signalbox/policy/v1/policy_pb.ts";
import type { Attempt } from "./attempt.ts";
import type { Attempts } from "./attempts.ts";
import type { Intake } from "./intake.ts";
import type { ReplyFacts } from "./reply.ts";

/** Facts of a refusal before anything was decided, but for the request id. */
export const NO_FACTS: ReplyFacts = {
  requestId: "",
  decisionId: "",
  backend: "",
  model: "",
  attempts: 0,
  experiment: "",
  queueMs: 0,
  routeMs: 0,
  upstreamMs: 0,
  warnings: [],
  costNanoUsd: undefined,
};

/** In place of a cost that would look like a gift. */
const UNPRICED_WARNING = "cost: unknown, a backend has no price";

/** What the caller may learn now. `attempt` is the one that answers or was made last; `routedMs` when the first one left. */
export function factsOf(
  intake: Intake,
  decision: Decision | undefined,
  isDecided: boolean,
  attempts: Attempts,
  attempt: Attempt | undefined,
  routedMs: number,
  warnings: readonly string[],
): ReplyFacts {
  const queueMs = decision?.queueMs ?? 0;
  const decided = attempt?.decision ?? decision;
  const { unpriced } = attempts;
  return {
    requestId: intake.requestId,
    decisionId: isDecided ? intake.decide.decisionId : "",
    backend: attempt?.backend ?? "",
    model: decision?.model ?? "",
    attempts: attempts.all.length,
    experiment: decided?.experiment ? `${decided.experiment}=${decided.arm}` : "",
    queueMs,
    routeMs: Math.max(0, routedMs - intake.startedMs - queueMs),
    upstreamMs: attempt?.ttftMs ?? 0,
    warnings: unpriced ? [...warnings, UNPRICED_WARNING] : warnings,
    costNanoUsd: attempt?.settlement === undefined || unpriced ? undefined : attempts.costNanoUsd,
  };
}
