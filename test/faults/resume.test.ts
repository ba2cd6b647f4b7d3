import { CUTS, resumeSuite } from "./resume.contract.ts";

const all = [
  ["cut", CUTS],
  ["rst_after", CUTS],
  ["malformed", CUTS],
  ["stall", CUTS],
] as const;

resumeSuite("embedded", {
  shared: false,
  resumed: { engine: all, claude: all },
  neverResumed: [
    ["tool calls", "rst_after", 2],
    ["tool calls", "cut", 3],
    ["tool calls", "stall", 4],
    ["structured output", "rst_after", 2],
    ["structured output", "cut", 3],
    ["structured output", "stall", 4],
    ["JSON mode", "rst_after", 2],
    ["log probabilities", "rst_after", 2],
    ["several choices", "rst_after", 2],
  ],
});
