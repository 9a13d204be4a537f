/** Shows characters of untrusted text that a reader cannot see, or that change the order of the visible ones. */

// Invisible characters that ordinary text needs (see dataset/invisible.py), where they have an effect: a joiner between two
// emoji, a joiner after a letter of a script that needs it, an emoji's variation selector, and the tags of a regional
// flag. A joiner between Latin letters is not among them.
const JOINING =
  "Arabic Syriac Nko Mongolian Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Khmer Myanmar Tibetan";
const ORDINARY = [
  String.raw`(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\uFE0F])\u200D(?=\p{Extended_Pictographic})`,
  String.raw`(?<=[${JOINING.split(" ")
    .map((script) => String.raw`\p{Script=${script}}`)
    .join("")}])[\u200C\u200D]`,
  String.raw`(?<=[\p{Emoji}])[\uFE0E\uFE0F]`,
  String.raw`(?<=\u{1F3F4}[\u{E0020}-\u{E007E}]{0,16})[\u{E0020}-\u{E007F}]`,
].join("|");

// Controls except line feed and tab, format characters (all bidi controls are among them), line separators, surrogates,
// private and unassigned characters. `shown` of display_text.py escapes the same set, but without the exceptions of
// ORDINARY, because few terminals draw a joined emoji in as many columns as they count for it.
const INVISIBLE = new RegExp(
  `(?!${ORDINARY})(?:` +
    String.raw`[^\P{C}\n\t]|[\u2028\u2029\uFE00-\uFE0F\u{E0100}-\u{E01EF}\u115F\u1160\u3164\uFFA0])`,
  "gu",
);

/** A piece of text as it is, or one invisible character written as an escape. */
export interface Stretch {
  readonly text: string;
  readonly escaped: boolean;
}

function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

/** `text` in pieces: visible text, and single invisible characters as escapes. */
export function stretches(text: string): Stretch[] {
  const result: Stretch[] = [];
  let from = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > from) result.push({ text: text.slice(from, match.index), escaped: false });
    result.push({ text: escape(match[0]), escaped: true });
    from = match.index + match[0].length;
  }
  if (from < text.length) result.push({ text: text.slice(from), escaped: false });
  return result;
}

/** `text` on one line with invisible characters as escapes: for attributes, titles and cells of tables. */
export function visible(text: string): string {
  return text.replace(/\s+/g, " ").replace(INVISIBLE, escape);
}
