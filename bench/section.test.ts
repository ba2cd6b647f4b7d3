import assert from "node:assert/strict";
import { test } from "node:test";
import { sectionOf, withSection } from "./section.ts";

test("a section is added at the end, replaced in its place, and found with its marks", () => {
  const first = withSection("# Title\n\ntext\n", "one", "alpha $& beta\n");
  assert.equal(first, "# Title\n\ntext\n\n<!-- one: start -->\nalpha $& beta\n<!-- one: end -->\n");
  const both = withSection(first, "two", "gamma");
  const replaced = withSection(both, "one", "delta");
  assert.ok(replaced.indexOf("delta") < replaced.indexOf("gamma") && !replaced.includes("alpha"));
  assert.equal(sectionOf(replaced, "one"), "<!-- one: start -->\ndelta\n<!-- one: end -->\n");
  assert.equal(sectionOf(replaced, "three"), undefined);
});
