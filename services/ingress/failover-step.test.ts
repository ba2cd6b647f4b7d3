import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AttemptEndSchema, AttemptErrorSchema } from "#gen/signalbox/adapter/v1/adapter_pb.ts";
import { Outcome } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { REASONS, type Reason, SignalboxError } from "#libs/errors/index.ts";
import { type FailoverState, nextStep } from "./failover.ts";
import { type Failure, failureOf } from "./failures.ts";
import { candidate } from "./testing.ts";

const other = candidate("beta", { provider: "anthropic" });
const STATE: FailoverState = {
  attempts: 1,
  attemptsMax: 3,
  remainingMs: Number.POSITIVE_INFINITY,
  remaining: [other],
  redecisions: 0,
  skips: 0,
  spent: false,
  contextOf: (backend) => (backend === "beta" ? 200_000 : 8_000),
  chance: 0.5,
  rateWaitMs: 3_000,
};

function failure(reason: Reason, parts: Partial<Failure> = {}): Failure {
  return {
    error: new SignalboxError(reason, "x"),
    backend: "alpha",
    provider: "openai",
    busy: false,
    contextLength: false,
    trial: false,
    ...parts,
  };
}

test("only the reasons of the table move on to another backend", () => {
  for (const reason of Object.keys(REASONS) as Reason[]) {
    const step = nextStep(failure(reason), STATE);
    assert.equal(step.kind === "try", REASONS[reason].failover || reason === "LOOP", reason);
  }
});

test("the first failover is nearly free, later ones cost one, a rate limit towards another provider nothing", () => {
  const cost = (reason: Reason, state: Partial<FailoverState>): number | undefined => {
    const step = nextStep(failure(reason), { ...STATE, ...state });
    return step.kind === "try" ? step.cost : undefined;
  };
  assert.equal(cost("UPSTREAM_UNAVAILABLE", {}), 0.2);
  assert.equal(cost("UPSTREAM_UNAVAILABLE", { attempts: 2 }), 1);
  assert.equal(cost("UPSTREAM_RATE_LIMITED", { attempts: 2 }), 0);
  assert.equal(cost("UPSTREAM_RATE_LIMITED", { attempts: 2, remaining: [candidate("gamma", { provider: "openai" })] }), 1);
});

test("without time left the deadline is the answer, whatever failed", () => {
  const step = nextStep(failure("UPSTREAM_UNAVAILABLE"), { ...STATE, remainingMs: 5 });
  assert.equal(step.kind === "give_up" && step.error.reason, "DEADLINE_EXCEEDED");
});

test("with nobody left the engine is asked again, then the same backend after a jittered wait, then it ends", () => {
  const bare = { ...STATE, remaining: [] };
  assert.equal(nextStep(failure("UPSTREAM_UNAVAILABLE"), bare).kind, "redecide");
  const again = nextStep(failure("UPSTREAM_UNAVAILABLE"), { ...bare, spent: true });
  assert.deepEqual(again, { kind: "again", afterMs: 50, cost: 1 });
  assert.equal(nextStep(failure("UPSTREAM_RATE_LIMITED"), { ...bare, spent: true }).kind, "give_up");
  assert.equal(nextStep(failure("UPSTREAM_UNAUTHORIZED"), { ...bare, spent: true }).kind, "give_up");
  assert.equal(nextStep(failure("UPSTREAM_UNAVAILABLE"), { ...bare, spent: true, remainingMs: 60 }).kind, "give_up");
  assert.equal(nextStep(failure("UPSTREAM_UNAVAILABLE"), { ...bare, attempts: 3 }).kind, "give_up");
});

test("a rate limit is waited for where it says for how long, and class and deadline allow that", () => {
  const bare = { ...STATE, remaining: [], spent: true };
  const limited = (retryAfterMs: number): Failure => ({
    ...failure("UPSTREAM_RATE_LIMITED"),
    error: new SignalboxError("UPSTREAM_RATE_LIMITED", "x", { retryAfterMs }),
  });
  const step = nextStep(limited(2_000), bare);
  assert.deepEqual(step.kind === "wait" && [step.afterMs, step.cost], [2_050, 1]);
  assert.equal(nextStep(limited(3_001), bare).kind, "give_up");
  assert.equal(nextStep(limited(2_000), { ...bare, remainingMs: 2_060 }).kind, "give_up");
  assert.equal(nextStep(limited(2_000), { ...bare, attempts: 3 }).kind, "give_up");
});

test("a request that was the trial of the last backend ends with 503, a rate limit stays one", () => {
  const bare = { ...STATE, attempts: 3 };
  const end = (reason: Reason): string | false => {
    const step = nextStep(failure(reason, { trial: true }), bare);
    return step.kind === "give_up" && step.error.reason;
  };
  assert.equal(end("UPSTREAM_UNAVAILABLE"), "NO_BACKEND");
  assert.equal(end("UPSTREAM_PROTOCOL"), "NO_BACKEND");
  assert.equal(end("UPSTREAM_RATE_LIMITED"), "UPSTREAM_RATE_LIMITED");
  assert.equal(end("UPSTREAM_REJECTED"), "UPSTREAM_REJECTED");
});

test("BUSY costs nothing and is bounded by its own number", () => {
  const busy = failure("UPSTREAM_UNAVAILABLE", { busy: true });
  assert.deepEqual(nextStep(busy, { ...STATE, attempts: 3 }), { kind: "try", candidate: other, cost: 0 });
  assert.equal(nextStep(busy, { ...STATE, skips: 16 }).kind, "give_up");
});

test("a full backend without another is asked for again after a moment, one without an adapter is not", () => {
  const busy = failure("UPSTREAM_UNAVAILABLE", { busy: true });
  const alone = { ...STATE, remaining: [], attempts: 0, skips: 1 };
  assert.deepEqual(nextStep(busy, alone), { kind: "redecide", cost: 0 });
  const spent = { ...alone, spent: true };
  assert.deepEqual(nextStep(busy, spent), { kind: "again", afterMs: 75, cost: 0 });
  assert.deepEqual(nextStep(busy, { ...spent, skips: 9 }), { kind: "again", afterMs: 750, cost: 0 });
  assert.equal(nextStep(busy, { ...spent, remainingMs: 80 }).kind, "give_up");
  assert.equal(nextStep(failure("NO_BACKEND", { busy: true }), spent).kind, "give_up");
});

test("a context that is too long moves only towards a larger window", () => {
  const long = failure("UPSTREAM_REJECTED", { contextLength: true });
  const step = nextStep(long, { ...STATE, remaining: [candidate("gamma"), other] });
  assert.equal(step.kind === "try" && step.candidate.backend, "beta");
  assert.equal(nextStep(long, { ...STATE, remaining: [candidate("gamma")] }).kind, "give_up");
});

test("an adapter's words are translated, and only the caller's mistakes keep their text", () => {
  const of = (reason: string, parts: Record<string, unknown> = {}): Failure =>
    failureOf(
      create(AttemptEndSchema, { outcome: Outcome.FAILED, error: create(AttemptErrorSchema, { reason, message: "secret", ...parts }) }),
      candidate("alpha"),
    );
  for (const reason of ["UPSTREAM_UNAVAILABLE", "UPSTREAM_PROTOCOL", "INTERNAL", "CANCELED", "nonsense", ""]) {
    assert.equal(of(reason).error.message.includes("secret"), false, reason);
    assert.equal(of(reason).error.row.failover, true, reason);
  }
  assert.equal(of("FEATURE_UNSUPPORTED").error.message, "secret");
  assert.equal(of("UPSTREAM_REJECTED", { httpStatus: 503 }).error.httpStatus, 400);
  assert.equal(of("UPSTREAM_UNAVAILABLE", { httpStatus: 508 }).error.reason, "LOOP");
  assert.equal(of("UPSTREAM_RATE_LIMITED", { retryAfterMs: 700 }).error.retryAfterMs, 700);
});
