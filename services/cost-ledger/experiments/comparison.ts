import { create } from "@bufbuild/protobuf";
import { type ExperimentComparison, ExperimentComparisonSchema } from "#gen/signalbox/control/v1/control_service_pb.ts";
import { compareArms, type Experiment, guardStandings, type Observations, sampleRatio } from "#libs/experiments/index.ts";

/** A comparison as it goes over the wire. */
export function comparisonOf(experiment: Experiment, seen: Observations, engines: number): ExperimentComparison {
  return create(ExperimentComparisonSchema, {
    name: experiment.name,
    revision: BigInt(experiment.revision),
    arms: compareArms(experiment, seen).map(({ arm, units, metrics }) => ({
      arm,
      units,
      metrics: metrics.map(({ metric, count, mean, interval }) => ({ metric, count, mean, ...interval })),
    })),
    guards: experiment.arms
      .filter(({ name }) => name !== experiment.control)
      .flatMap(({ name }) =>
        guardStandings(experiment, seen, name).map(({ guard, margin, status }) => ({ arm: name, guard, margin, status })),
      ),
    sampleRatioP: sampleRatio(experiment, seen, engines),
    engines,
  });
}
