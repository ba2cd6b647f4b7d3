import { lookup } from "node:dns/promises";
import type { Clock, Timer } from "#libs/clock/index.ts";

/** How often names are resolved again, ms: a replica that comes or goes is known within this. */
const RESOLVE_EVERY_MS = 5_000;

/** Most addresses of one role. */
const ADDRESSES_MAX = 256;

/**
 * The addresses of a role: `host:port` as they are, `dns:///name:port` resolved again and again into one per record.
 * A name that does not resolve keeps its last addresses.
 */
export class AddressBook {
  readonly #fixed: readonly string[];
  readonly #names: readonly { readonly host: string; readonly port: string }[];
  readonly #resolved = new Map<string, readonly string[]>();
  readonly #onChange: (addresses: readonly string[]) => void;
  readonly #timer: Timer | undefined;
  #last = "";

  constructor(addresses: readonly string[], clock: Clock, onChange: (addresses: readonly string[]) => void) {
    const named = addresses.filter((address) => address.startsWith("dns:"));
    this.#fixed = addresses.filter((address) => !address.startsWith("dns:"));
    this.#names = named.map((address) => {
      const text = address.replace(/^dns:(\/\/[^/]*\/)?/, "");
      const colon = text.lastIndexOf(":");
      return { host: text.slice(0, colon), port: text.slice(colon + 1) };
    });
    this.#onChange = onChange;
    this.#tell();
    if (this.#names.length === 0) return;
    void this.#resolve();
    this.#timer = clock.every(RESOLVE_EVERY_MS, () => void this.#resolve());
  }

  close(): void {
    this.#timer?.cancel();
  }

  async #resolve(): Promise<void> {
    for (const { host, port } of this.#names) {
      try {
        const found = await lookup(host, { all: true });
        const texts = found.map(({ address, family }) => (family === 6 ? `[${address}]:${port}` : `${address}:${port}`));
        if (texts.length > 0) this.#resolved.set(`${host}:${port}`, texts);
      } catch {
        // keeps the last answer
      }
    }
    this.#tell();
  }

  #tell(): void {
    const all = [...new Set([...this.#fixed, ...[...this.#resolved.values()].flat()])].sort().slice(0, ADDRESSES_MAX);
    const text = all.join(" ");
    if (text === this.#last) return;
    this.#last = text;
    this.#onChange(all);
  }
}
