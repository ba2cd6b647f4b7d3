import { createHash, timingSafeEqual } from "node:crypto";
import { SignalboxError } from "#libs/errors/index.ts";
import type { Authorize, RpcService } from "#libs/rpc/index.ts";

/** Services that belong to the mesh alone: over them one could spend money past keys and budgets. */
const MESH_ONLY: ReadonlySet<string> = new Set(["signalbox.adapter.v1.AdapterService"]);

/** Services that check their callers themselves: virtual keys, as over HTTP. */
const SELF_GUARDED: ReadonlySet<string> = new Set(["signalbox.inference.v1.InferenceService"]);

/** What the open RPC port offers. */
export function publicServices(services: readonly RpcService[]): readonly RpcService[] {
  return services.filter(({ descriptor }) => !MESH_ONLY.has(descriptor.typeName));
}

/** Lets calls of the control APIs through only with the admin token, as the admin port does. Throws UNAUTHENTICATED. */
export function adminOnly(adminToken: string): Authorize {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digest(adminToken);
  return ({ service, requestHeader }) => {
    if (SELF_GUARDED.has(service.typeName)) return;
    const [scheme, token] = (requestHeader.get("authorization") ?? "").split(" ");
    if (scheme?.toLowerCase() === "bearer" && token !== undefined && timingSafeEqual(digest(token), expected)) return;
    throw new SignalboxError(
      "UNAUTHENTICATED",
      "The control APIs need the admin token: authorization: Bearer <the text of DATA_DIR/admin.token>.",
    );
  };
}
