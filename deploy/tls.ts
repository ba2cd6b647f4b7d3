import { readFileSync } from "node:fs";
import type { MeshConfig } from "#libs/config/model.ts";
import type { MeshTls } from "#libs/rpc/index.ts";

/** Reads the files `mesh.tls` names; an empty object where the mesh is in plain text (loopback). */
export function meshTls(mesh: MeshConfig): { readonly tls?: MeshTls } {
  if (!mesh.tls) return {};
  return { tls: { ca: readFileSync(mesh.tls.ca), cert: readFileSync(mesh.tls.cert), key: readFileSync(mesh.tls.key) } };
}
