import { describe } from "node:test";
import { resumeSuite } from "../faults/resume.contract.ts";
import { meshMissing } from "../support/gateway.ts";

// Every backend breaks a few times only: the mesh is one for all tests, and its monitor remembers.
describe("over the mesh", { skip: meshMissing() ?? false }, () => {
  resumeSuite("mesh", {
    shared: true,
    resumed: {
      engine: [
        ["cut", [1, 5]],
        ["stall", [3, 7]],
      ],
      claude: [
        ["cut", [8, 10]],
        ["stall", [9]],
      ],
    },
    neverResumed: [
      ["tool calls", "cut", 1],
      ["tool calls", "stall", 3],
      ["structured output", "cut", 5],
      ["structured output", "stall", 7],
    ],
  });
});
