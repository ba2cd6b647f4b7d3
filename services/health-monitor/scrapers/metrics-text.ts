/**
 * Calls `onSample` for each sample of a wanted metric in Prometheus' text form, in order. A line scan, not a parser: metrics
 * nobody asked for cost one look at their name.
 */
export function scanSamples(
  text: string,
  wanted: ReadonlySet<string>,
  onSample: (name: string, labels: string, value: number) => void,
): void {
  let at = 0;
  while (at < text.length) {
    let end = text.indexOf("\n", at);
    if (end < 0) end = text.length;
    if (text.charCodeAt(at) !== HASH) scanLine(text, at, end, wanted, onSample);
    at = end + 1;
  }
}

const HASH = 35;

function scanLine(
  text: string,
  from: number,
  to: number,
  wanted: ReadonlySet<string>,
  onSample: (name: string, labels: string, value: number) => void,
): void {
  let nameEnd = from;
  while (nameEnd < to) {
    const character = text.charCodeAt(nameEnd);
    // a brace, a space or a tab ends the name
    if (character === 123 || character === 32 || character === 9) break;
    nameEnd++;
  }
  const name = text.slice(from, nameEnd);
  if (!wanted.has(name)) return;
  const labelsEnd = text.charCodeAt(nameEnd) === 123 ? text.lastIndexOf("}", to) : nameEnd;
  if (labelsEnd < nameEnd || labelsEnd >= to) return;
  const labels = labelsEnd > nameEnd ? text.slice(nameEnd + 1, labelsEnd) : "";
  const value = Number(
    text
      .slice(labelsEnd === nameEnd ? nameEnd : labelsEnd + 1, to)
      .trim()
      .split(/\s+/, 1)[0],
  );
  if (Number.isFinite(value)) onSample(name, labels, value);
}

/** Value of one label; undefined when it is not there. */
export function labelOf(labels: string, name: string): string | undefined {
  const match = new RegExp(`(?:^|,)\\s*${name}="((?:[^"\\\\]|\\\\.)*)"`).exec(labels);
  return match?.[1];
}
