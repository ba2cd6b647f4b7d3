import { stripVTControlCharacters } from "node:util";

/** A column: its heading, and whether its cells are numbers (which align right). */
export interface Column {
  readonly title: string;
  readonly right?: boolean;
}

const GAP = "  ";

function width(text: string): number {
  return stripVTControlCharacters(text).length;
}

/** Widths that hold the headings and all cells. */
export function widthsOf(columns: readonly Column[], rows: readonly (readonly string[])[]): readonly number[] {
  return columns.map((column, index) => Math.max(width(column.title), ...rows.map((row) => width(row[index] ?? ""))));
}

/** One line of a table; the last column carries no trailing spaces. */
export function tableLine(columns: readonly Column[], widths: readonly number[], cells: readonly string[]): string {
  const padded = columns.map((column, index) => {
    const cell = cells[index] ?? "";
    const space = " ".repeat(Math.max(0, (widths[index] ?? 0) - width(cell)));
    return column.right ? space + cell : cell + space;
  });
  return padded.join(GAP).trimEnd();
}

/** A table with its headings, aligned, one line per row, ending in a line break. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = widthsOf(columns, rows);
  const titles = columns.map((column) => column.title);
  return [titles, ...rows].map((cells) => `${tableLine(columns, widths, cells)}\n`).join("");
}
