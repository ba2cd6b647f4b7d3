import type { Report } from "./problems.ts";
import { mapAt, type Tree } from "./tree.ts";

/** Settings that are right and change nothing: reported as warnings, because whoever wrote them expects something. */
export function checkEffects(root: Tree, warn: Report): void {
  for (const name of Object.keys(mapAt(root, "classes"))) {
    if (mapAt(root, "classes", name)["defer_to"] === undefined) continue;
    warn(
      ["classes", name, "defer_to"],
      "has no effect yet: it is for the items of /v1/batches, which is not there; a request that somebody waits for goes as soon as there is room",
    );
  }
}
