/** Whether `subject` (no wildcards) matches `pattern` (NATS: `*` is one token, a final `>` is one or more). */
export function subjectMatches(pattern: string, subject: string): boolean {
  if (pattern === subject) return true;
  const wanted = pattern.split(".");
  const tokens = subject.split(".");
  for (let index = 0; index < wanted.length; index++) {
    const want = wanted[index];
    if (want === ">") return tokens.length > index;
    if (index >= tokens.length) return false;
    if (want !== "*" && want !== tokens[index]) return false;
  }
  return wanted.length === tokens.length;
}

/** Whether a subscription's subject can match more than one subject. */
export function hasWildcard(pattern: string): boolean {
  return pattern.split(".").some((token) => token === "*" || token === ">");
}

/** Whether something can be published on `subject`: non-empty tokens, no wildcards, no white space. */
export function isPublishable(subject: string): boolean {
  return subject.length > 0 && !/[\s*>]/.test(subject) && !subject.startsWith(".") && !subject.endsWith(".") && !subject.includes("..");
}
