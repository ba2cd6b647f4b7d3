/** What the API accepts as a tool call's id. */
const LEGAL = /^[a-zA-Z0-9_-]+$/;

/** Marks an id that was rewritten; ids that begin with it are rewritten too, so that no two ids meet. */
const MARK = "sbx-";

/** The id as the API accepts it: itself when legal, else its base64url behind a mark. {@link restoreToolId} takes it back. */
export function legalToolId(id: string): string {
  if (LEGAL.test(id) && !id.startsWith(MARK)) return id;
  return MARK + Buffer.from(id, "utf8").toString("base64url");
}

/** The client's id behind one made by {@link legalToolId}; every other id as it is. */
export function restoreToolId(id: string): string {
  return id.startsWith(MARK) ? Buffer.from(id.slice(MARK.length), "base64url").toString("utf8") : id;
}
