import type { CatalogEntry } from "../catalog.ts";

interface ModelObject {
  readonly id: string;
  readonly object: "model";
  readonly created: number;
  readonly owned_by: string;
}

function modelObject(entry: CatalogEntry, createdS: number): ModelObject {
  return { id: entry.id, object: "model", created: createdS, owned_by: entry.ownedBy };
}

/** The body of `GET /v1/models/{id}`. `createdS` = when this process learned of it, seconds since the epoch. */
export function modelBody(entry: CatalogEntry, createdS: number): string {
  return JSON.stringify(modelObject(entry, createdS));
}

/** The body of `GET /v1/models`. */
export function modelListBody(entries: readonly CatalogEntry[], createdS: number): string {
  return JSON.stringify({ object: "list", data: entries.map((entry) => modelObject(entry, createdS)) });
}
