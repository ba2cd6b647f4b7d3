import { fileURLToPath } from "node:url";
import { tracesFolder } from "./trace.ts";

/** The folder of the traces, or why the tests that need them are skipped. */
export function tracesOrReason(): { readonly folder: string; readonly skip: string | false } {
  try {
    return { folder: tracesFolder(process.env, fileURLToPath(new URL("..", import.meta.url))), skip: false };
  } catch (cause) {
    return { folder: "", skip: (cause as Error).message };
  }
}
