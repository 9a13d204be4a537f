/** Mathematical alphabets. Browsers no longer know `mathvariant`, so letters are replaced by those of the alphabet. */

interface Alphabet {
  readonly upper: number;
  readonly lower: number;
  readonly digit?: number;
  /** Letters that Unicode had before the alphabet was added; they are not in its block. */
  readonly earlier?: Readonly<Record<string, string>>;
}

const ALPHABETS: Readonly<Record<string, Alphabet>> = {
  bold: { upper: 0x1d400, lower: 0x1d41a, digit: 0x1d7ce },
  italic: { upper: 0x1d434, lower: 0x1d44e, earlier: { h: "ℎ" } },
  "bold-italic": { upper: 0x1d468, lower: 0x1d482 },
  script: {
    upper: 0x1d49c,
    lower: 0x1d4b6,
    earlier: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  },
  fraktur: { upper: 0x1d504, lower: 0x1d51e, earlier: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" } },
  "double-struck": {
    upper: 0x1d538,
    lower: 0x1d552,
    digit: 0x1d7d8,
    earlier: { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
  },
  "sans-serif": { upper: 0x1d5a0, lower: 0x1d5ba, digit: 0x1d7e2 },
  monospace: { upper: 0x1d670, lower: 0x1d68a, digit: 0x1d7f6 },
};

/** `text` in the alphabet that `variant` names; characters that the alphabet lacks stay as they are. */
export function styled(text: string, variant: string | undefined): string {
  const alphabet = variant === undefined ? undefined : ALPHABETS[variant];
  if (alphabet === undefined) return text;
  return text.replace(/[A-Za-z0-9]/g, (letter) => {
    const earlier = alphabet.earlier?.[letter];
    if (earlier !== undefined) return earlier;
    const code = letter.charCodeAt(0);
    if (code >= 97) return String.fromCodePoint(alphabet.lower + code - 97);
    if (code >= 65) return String.fromCodePoint(alphabet.upper + code - 65);
    return alphabet.digit === undefined ? letter : String.fromCodePoint(alphabet.digit + code - 48);
  });
}
