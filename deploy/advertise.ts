import { networkInterfaces } from "node:os";
import type { MeshConfig } from "#libs/config/model.ts";

/** Address other processes reach this one's mesh listener at: `mesh.advertise`, else where it listens, else this machine's first outward IPv4 address. */
export function advertisedAddress(mesh: MeshConfig): string {
  if (mesh.advertise !== undefined) return mesh.advertise;
  const { host, port } = mesh.listen;
  const isAny = host === "0.0.0.0" || host === "::";
  if (!isAny) return `${host}:${port}`;
  const outward = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === "IPv4" && !address.internal);
  return `${outward?.address ?? "127.0.0.1"}:${port}`;
}
