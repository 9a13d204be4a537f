/** Finds the maths in a text that a model wrote. */

export interface Segment {
  readonly kind: "text" | "math";
  /** Text as it is, or the maths between its delimiters. */
  readonly text: string;
  /** Maths with its delimiters: what is shown if it cannot be rendered. */
  readonly source: string;
  readonly display: boolean;
}

/** Most characters of a piece of maths. Longer maths is shown as text, so that KaTeX gets no input of unbounded length. */
export const LONGEST_MATH = 2_000;

const ENVIRONMENTS = "equation|align|alignat|gather|multline|eqnarray|aligned|cases|array|matrix|pmatrix|bmatrix|vmatrix";

// In this order: \[…\], $$…$$, \(…\), an environment, $…$. Single dollars follow Pandoc's rules, so that prices stay text:
// no space after the opening one or before the closing one, no digit after the closing one, no empty line between them.
const MATH = new RegExp(
  String.raw`(?<!\\)(?:\\\[(?<brackets>[^]{1,${LONGEST_MATH}}?)\\\]` +
    String.raw`|\$\$(?<dollars>[^$]{1,${LONGEST_MATH}}?)\$\$` +
    String.raw`|\\\((?<parentheses>[^]{1,${LONGEST_MATH}}?)\\\)` +
    String.raw`|\\begin\{(?<name>(?:${ENVIRONMENTS})\*?)\}[^]{0,${LONGEST_MATH}}?\\end\{\k<name>\}` +
    String.raw`|\$(?<dollar>(?=\S)(?:[^$\\\n]|\\[^\n]|\n(?!\s*\n)){1,${LONGEST_MATH}}?)(?<=\S)\$(?!\d))`,
  "gu",
);

/** `text` in segments of plain text and maths, in order. Their sources joined are `text`. */
export function segments(text: string): Segment[] {
  const result: Segment[] = [];
  let from = 0;
  const plain = (until: number): void => {
    if (until > from) {
      const part = text.slice(from, until);
      result.push({ kind: "text", text: part, source: part, display: false });
    }
  };
  for (const match of text.matchAll(MATH)) {
    plain(match.index);
    const { brackets, dollars, parentheses, name, dollar } = match.groups ?? {};
    const inner = brackets ?? dollars ?? parentheses ?? dollar ?? match[0];
    const display = brackets !== undefined || dollars !== undefined || name !== undefined;
    result.push({ kind: "math", text: inner, source: match[0], display });
    from = match.index + match[0].length;
  }
  plain(text.length);
  return result;
}
