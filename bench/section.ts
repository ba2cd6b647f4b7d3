const START = (name: string): string => `<!-- ${name}: start -->\n`;
const END = (name: string): string => `<!-- ${name}: end -->\n`;

/** Puts a section of this name into a text, in the place of the one there is, else at its end. */
export function withSection(text: string, name: string, body: string): string {
  const section = `${START(name)}${body.trimEnd()}\n${END(name)}`;
  const old = sectionOf(text, name);
  return old === undefined ? `${text.trimEnd()}\n\n${section}` : text.replace(old, () => section);
}

/** The section of this name with its marks; undefined = there is none. */
export function sectionOf(text: string, name: string): string | undefined {
  const from = text.indexOf(START(name));
  const to = text.indexOf(END(name));
  return from < 0 || to < from ? undefined : text.slice(from, to + END(name).length);
}
