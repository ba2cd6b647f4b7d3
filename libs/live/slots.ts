/**
 * Things that come and go with requests, each in a numbered slot that is used again. An entry costs an array write, and what has gone
 * is held by nothing: the tables of a `Set` or `Map` that many pass through keep each other alive, and all they ever held, until a
 * full collection (see `LiveMap`). No order is kept.
 */
export class Slots<T extends object> {
  readonly #items: (T | undefined)[] = [];
  readonly #free: number[] = [];

  get size(): number {
    return this.#items.length - this.#free.length;
  }

  /** Takes `item` in; returns its slot, which is what takes it out again. */
  add(item: T): number {
    const slot = this.#free.pop();
    if (slot === undefined) return this.#items.push(item) - 1;
    this.#items[slot] = item;
    return slot;
  }

  /** What is in a slot. */
  at(slot: number): T | undefined {
    return this.#items[slot];
  }

  /** Puts another item into a slot that is taken. */
  replace(slot: number, item: T): void {
    this.#items[slot] = item;
  }

  /** Empties a slot; one that is empty stays so. */
  remove(slot: number): void {
    if (this.#items[slot] === undefined) return;
    this.#items[slot] = undefined;
    this.#free.push(slot);
  }

  clear(): void {
    this.#items.length = 0;
    this.#free.length = 0;
  }

  /** Everything that is in. Items may be taken in or out meanwhile; what is taken in meanwhile may be missed. */
  *[Symbol.iterator](): Generator<T, void, undefined> {
    for (let slot = 0; slot < this.#items.length; slot++) {
      const item = this.#items[slot];
      if (item !== undefined) yield item;
    }
  }
}
