import assert from "node:assert/strict";
import { test } from "node:test";
import { hasWildcard, isPublishable, subjectMatches } from "./subject-match.ts";
import { SUBJECTS, subjectOf } from "./subjects.ts";

test("a star matches exactly one token and a final greater-than one or more", () => {
  assert.ok(subjectMatches("a.*.c", "a.b.c"));
  assert.ok(!subjectMatches("a.*.c", "a.b.d"));
  assert.ok(!subjectMatches("a.*", "a.b.c"));
  assert.ok(subjectMatches("a.>", "a.b.c"));
  assert.ok(!subjectMatches("a.>", "a"));
  assert.ok(!subjectMatches("a.b.c", "a.b"));
  assert.ok(subjectMatches(">", "a"));
});

test("wildcards are found and refused in published subjects", () => {
  assert.ok(hasWildcard("a.*"));
  assert.ok(!hasWildcard("a.b"));
  for (const bad of ["", "a.*", "a.>", "a b", ".a", "a.", "a..b"]) assert.ok(!isPublishable(bad), bad);
  assert.ok(isPublishable(SUBJECTS.entryRecorded));
});

test("tokens are encoded so that no token can name another subject", () => {
  assert.equal(subjectOf(SUBJECTS.entryCommitted, "host.1"), `${SUBJECTS.entryCommitted}.host_2e_1`);
  assert.ok(isPublishable(subjectOf(SUBJECTS.loadPublished, "a.*> b")));
});
