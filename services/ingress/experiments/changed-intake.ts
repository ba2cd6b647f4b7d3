import { type Decision, Operation } from "#gen/signalbox/policy/v1/policy_pb.ts";
import { changeEffect } from "#libs/experiments/index.ts";
import type { Intake } from "../intake.ts";
import { isObject } from "../openai/parse.ts";
import { changeRequest } from "./change-request.ts";

/**
 * The request as the arm of `decision` sends it: the same one where the arm changes nothing, else one with its own body, extents
 * and estimates. Throws INTERNAL where the change cannot be read.
 */
export function changedIntake(intake: Intake, decision: Decision): Intake {
  const { requestChange } = decision;
  if (requestChange.length === 0 || intake.decide.operation !== Operation.CHAT) return intake;
  const parsed: unknown = JSON.parse(Buffer.from(requestChange).toString());
  const effect = changeEffect(isObject(parsed) ? parsed : {});
  const { decide } = intake;
  return {
    ...intake,
    ...changeRequest(intake.body, intake.fields, requestChange),
    decide: {
      ...decide,
      inputTokens: decide.inputTokens + effect.inputTokens,
      maxOutputTokens: effect.maxOutputTokens ?? decide.maxOutputTokens,
    },
  };
}
