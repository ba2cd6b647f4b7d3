import type { ClassName, Config, ModelConfig } from "#libs/config/model.ts";

/** A name a caller may use. */
export interface CatalogEntry {
  /** The name itself. */
  readonly id: string;
  /** The configured model it leads to; undefined for `provider/model` names of a backend. */
  readonly model: ModelConfig | undefined;
  /** Provider word, or `signalbox` for a configured model. */
  readonly ownedBy: string;
}

/** The models callers may name, read from one configuration. Immutable. */
export class Catalog {
  readonly #entries = new Map<string, CatalogEntry>();

  constructor(config: Config) {
    for (const model of config.models.values()) this.#add(model.name, model, "signalbox");
    for (const model of config.models.values()) for (const alias of model.aliases) this.#add(alias, model, "signalbox");
    for (const backend of config.backends.values()) this.#add(`${backend.provider}/${backend.model}`, undefined, backend.provider);
  }

  #add(id: string, model: ModelConfig | undefined, ownedBy: string): void {
    if (!this.#entries.has(id)) this.#entries.set(id, { id, model, ownedBy });
  }

  /** The entry of a name, alias or `provider/model`. */
  get(name: string): CatalogEntry | undefined {
    return this.#entries.get(name);
  }

  /** Every name, in the order of the configuration. */
  entries(): Iterable<CatalogEntry> {
    return this.#entries.values();
  }

  /** The configured model's own name for an alias; the name itself where nothing is known. */
  resolve(name: string): string {
    return this.#entries.get(name)?.model?.name ?? name;
  }

  /** Class of requests that name none; models without one are `standard` (decision 17). */
  defaultClass(name: string): ClassName {
    return this.#entries.get(name)?.model?.class ?? "standard";
  }
}
