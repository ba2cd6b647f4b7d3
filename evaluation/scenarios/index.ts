import type { Scenario } from "../scenario.ts";
import { burst } from "./burst.ts";
import { diurnal } from "./diurnal.ts";
import { fanOut } from "./fan-out.ts";
import { faults } from "./faults.ts";
import { heterogeneous } from "./heterogeneous.ts";
import { homogeneous } from "./homogeneous.ts";
import { mixed } from "./mixed.ts";
import { noisy } from "./noisy.ts";
import { overflow } from "./overflow.ts";
import { prefix } from "./prefix.ts";
import { replicas } from "./replicas.ts";

/** All scenarios, in the order of the plan. S10 (experiments) is measured with the experiments' own statistics. */
export const SCENARIOS: readonly Scenario[] = [
  homogeneous,
  heterogeneous,
  burst,
  prefix,
  overflow,
  mixed,
  noisy,
  faults,
  diurnal,
  replicas,
  fanOut,
];
