import type { Counter, Family, Gauge, Histogram, Metrics } from "./metrics.ts";

/** Children of one family; beyond this the label values become `other`, so that no client can grow the scrape. */
const CHILDREN_MAX = 1_000;
const OTHER = "other";

/** Longest label value kept, characters. */
const LABEL_MAX_LENGTH = 64;

interface Cell {
  /** Lines of the Prometheus text format, without a trailing newline. */
  render(name: string, labels: string): string;
}

class CounterCell implements Counter, Cell {
  #value = 0;

  add(amount = 1): void {
    this.#value += amount;
  }

  render(name: string, labels: string): string {
    return `${name}${braces(labels)} ${this.#value}`;
  }
}

class GaugeCell implements Gauge, Cell {
  #value = 0;

  set(value: number): void {
    this.#value = value;
  }

  render(name: string, labels: string): string {
    return `${name}${braces(labels)} ${this.#value}`;
  }
}

class HistogramCell implements Histogram, Cell {
  readonly #buckets: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(buckets: readonly number[]) {
    this.#buckets = buckets;
    this.#counts = new Float64Array(buckets.length + 1);
  }

  observe(value: number): void {
    if (!Number.isFinite(value)) return;
    const buckets = this.#buckets;
    let low = 0;
    let high = buckets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value <= buckets[middle]!) high = middle;
      else low = middle + 1;
    }
    this.#counts[low] = this.#counts[low]! + 1;
    this.#sum += value;
  }

  render(name: string, labels: string): string {
    const lines: string[] = [];
    let total = 0;
    const prefix = labels === "" ? "" : `${labels},`;
    for (let index = 0; index < this.#counts.length; index++) {
      total += this.#counts[index]!;
      const bound = index < this.#buckets.length ? String(this.#buckets[index]) : "+Inf";
      lines.push(`${name}_bucket{${prefix}le="${bound}"} ${total}`);
    }
    lines.push(`${name}_sum${braces(labels)} ${this.#sum}`, `${name}_count${braces(labels)} ${total}`);
    return lines.join("\n");
  }
}

/** Children by the value of one label after the other: looking one up joins no text. */
interface Branch<T> {
  readonly next: Map<string, Branch<T>>;
  cell: T | undefined;
}

class CellFamily<T extends Cell> implements Family<T> {
  readonly name: string;
  readonly #help: string;
  readonly #type: string;
  readonly #labels: readonly string[];
  readonly #create: () => T;
  readonly #root: Branch<T> = { next: new Map(), cell: undefined };
  readonly #children: { readonly cell: T; readonly labels: string }[] = [];

  constructor(name: string, help: string, type: string, labels: readonly string[], create: () => T) {
    this.name = name;
    this.#help = help;
    this.#type = type;
    this.#labels = labels;
    this.#create = create;
  }

  with(...values: readonly string[]): T {
    let branch: Branch<T> | undefined = this.#root;
    for (let index = 0; index < values.length; index++) {
      branch = branch.next.get(values[index]!);
      if (branch === undefined) return this.#add(values);
    }
    return branch.cell ?? this.#add(values);
  }

  render(): string {
    const lines = [`# HELP ${this.name} ${this.#help}`, `# TYPE ${this.name} ${this.#type}`];
    for (const { cell, labels } of this.#children) lines.push(cell.render(this.name, labels));
    return lines.join("\n");
  }

  #add(values: readonly string[]): T {
    if (values.length !== this.#labels.length) throw new Error(`${this.name} takes labels ${this.#labels.join(", ")}`);
    if (this.#children.length >= CHILDREN_MAX && values.some((value) => value !== OTHER)) return this.with(...values.map(() => OTHER));
    let branch = this.#root;
    for (const value of values) {
      let next = branch.next.get(value);
      if (next === undefined) branch.next.set(value, (next = { next: new Map(), cell: undefined }));
      branch = next;
    }
    const cell = this.#create();
    branch.cell = cell;
    this.#children.push({ cell, labels: this.#text(values) });
    return cell;
  }

  #text(values: readonly string[]): string {
    return this.#labels.map((label, index) => `${label}="${escapeLabel(values[index] ?? "")}"`).join(",");
  }
}

function braces(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}

function escapeLabel(value: string): string {
  return value
    .slice(0, LABEL_MAX_LENGTH)
    .replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`))
    .replace(/[\u0000-\u001f\u007f]/g, "?");
}

/** Metrics with cheap children: an observation is a binary search and two additions, no hashing of labels. */
export interface CellMetrics extends Metrics {
  /** All families in the Prometheus text format (0.0.4). */
  render(): string;
}

/** Makes an empty set of metrics. */
export function createMetrics(): CellMetrics {
  const families = new Map<string, CellFamily<Cell>>();
  const collectors: (() => void)[] = [];
  const declare = <T extends Cell>(name: string, help: string, type: string, labels: readonly string[], create: () => T): Family<T> => {
    const known = families.get(name) as CellFamily<T> | undefined;
    if (known) return known;
    const family = new CellFamily(name, help, type, labels, create);
    families.set(name, family as unknown as CellFamily<Cell>);
    if (labels.length === 0) family.with();
    return family;
  };
  return {
    counter: (name, help, labels = []) => declare(name, help, "counter", labels, () => new CounterCell()),
    gauge: (name, help, labels = []) => declare(name, help, "gauge", labels, () => new GaugeCell()),
    histogram: (name, help, buckets, labels = []) => declare(name, help, "histogram", labels, () => new HistogramCell(buckets)),
    onScrape: (collect) => void collectors.push(collect),
    render: () => {
      for (const collect of collectors) collect();
      return `${[...families.values()].map((family) => family.render()).join("\n")}\n`;
    },
  };
}
