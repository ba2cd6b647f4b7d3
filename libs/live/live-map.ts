import { Slots } from "./slots.ts";

/**
 * A map for what lives as long as a request: its values are kept beside V8's hash table, not in it.
 *
 * A `Map` that is filled and emptied all the time makes a new table every few dozen entries, and each old table points to the next
 * one and to every value it held when it was given up. Once one of them is old enough to be left out of the quick collections,
 * all that follow survive them with it: every request's whole object graph is copied twice and promoted although nobody wants it
 * (measured: a third of all that was allocated, 30 ms a collection). Here the tables hold numbers.
 */
export class LiveMap<K extends string | number, V extends object> {
  readonly #slotOf = new Map<K, number>();
  readonly #values = new Slots<V>();

  get size(): number {
    return this.#slotOf.size;
  }

  get(key: K): V | undefined {
    const slot = this.#slotOf.get(key);
    return slot === undefined ? undefined : this.#values.at(slot);
  }

  has(key: K): boolean {
    return this.#slotOf.has(key);
  }

  set(key: K, value: V): void {
    const slot = this.#slotOf.get(key);
    if (slot === undefined) this.#slotOf.set(key, this.#values.add(value));
    else this.#values.replace(slot, value);
  }

  /** Whether there was such a key. */
  delete(key: K): boolean {
    const slot = this.#slotOf.get(key);
    if (slot === undefined) return false;
    this.#values.remove(slot);
    return this.#slotOf.delete(key);
  }

  clear(): void {
    this.#slotOf.clear();
    this.#values.clear();
  }

  /** All values, in no order. Entries may come and go meanwhile. */
  values(): Iterable<V> {
    return this.#values;
  }
}
