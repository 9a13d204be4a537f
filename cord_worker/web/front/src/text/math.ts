/**
 * Maths as MathML elements that are made one by one from KaTeX's tree. No markup is ever parsed: elements, attributes
 * and styles that are not listed here do not exist in the page.
 */
import { __renderToDomTree as renderTree } from "katex";
import { styled } from "./alphabets";

const NAMESPACE = "http://www.w3.org/1998/Math/MathML";

/** Larger or deeper trees are shown as text, because such input is an attack on the browser, not maths. */
const MOST_NODES = 4_000;
const DEEPEST = 60;

const ELEMENTS = new Set(
  "math mrow mi mn mo mtext mspace msup msub msubsup mfrac msqrt mroot mtable mtr mtd mover munder munderover mpadded mphantom menclose mstyle".split(
    " ",
  ),
);

/** Presentation attributes of MathML Core; colours are left out, so that no text hides in the page's background. */
const ATTRIBUTES = new Set(
  "accent accentunder columnspan display displaystyle fence form largeop linethickness lspace maxsize minsize movablelimits rowspan rspace scriptlevel separator stretchy symmetric".split(
    " ",
  ),
);

/** Lengths are bounded here too, because KaTeX's `maxSize` bounds each length in the input, but not sums of them. */
const LENGTHS = new Set("depth height lspace rspace voffset width linethickness minsize maxsize".split(" "));
const LENGTH = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:em|ex|pt|px|mu|%)?$/;

const OPTIONS = {
  output: "mathml",
  strict: "ignore",
  throwOnError: true,
  maxSize: 10,
  maxExpand: 300,
} as const;

interface Node {
  readonly type?: string;
  readonly text?: string;
  readonly attributes?: Record<string, string>;
  readonly children?: readonly Node[];
}

class TooLarge extends Error {}

/** The MathML of `source`, or null if it cannot be shown as maths; then its text is to be shown. */
export function mathElement(source: string, display: boolean): Element | null {
  // KaTeX draws an untrusted command, such as \href, as its name alone. The text in it would be missing.
  let isComplete = true;
  const trust = (): boolean => {
    isComplete = false;
    return false;
  };
  try {
    const tree = renderTree(source, { ...OPTIONS, trust, displayMode: display }) as unknown as Node;
    if (!isComplete) return null;
    const math = find(tree, "math", 0);
    if (math === null) return null;
    return new Builder().element(math, 0);
  } catch {
    return null; // the input has an error, is too large, or exhausted the stack
  }
}

function find(node: Node, type: string, depth: number): Node | null {
  if (node.type === type) return node;
  if (depth > 4) return null;
  for (const child of node.children ?? []) {
    const found = find(child, type, depth + 1);
    if (found !== null) return found;
  }
  return null;
}

class Builder {
  private nodes = 0;

  element(node: Node, depth: number): Element {
    this.nodes += 1;
    if (this.nodes > MOST_NODES || depth > DEEPEST) throw new TooLarge();
    const type = node.type === "menclose" ? "mrow" : (node.type ?? "mrow");
    const element = document.createElementNS(NAMESPACE, ELEMENTS.has(type) ? type : "mrow");
    const attributes = node.attributes ?? {};
    for (const [name, value] of Object.entries(attributes)) {
      const text = String(value);
      if (LENGTHS.has(name) && !isLength(text)) continue;
      if (ATTRIBUTES.has(name) || LENGTHS.has(name)) element.setAttribute(name, text);
    }
    if (node.type === "menclose") {
      for (const notation of (attributes["notation"] ?? "").split(" ")) {
        if (/^[a-z]+$/.test(notation)) element.classList.add(`enclosed-${notation}`);
      }
    }
    this.children(node, element, depth, attributes["mathvariant"]);
    return element;
  }

  private children(node: Node, element: Element, depth: number, variant: string | undefined): void {
    for (const child of node.children ?? []) {
      if (child.type === "annotation") continue;
      if (child.type === "semantics") {
        this.children(child, element, depth, variant);
      } else if (child.type !== undefined) {
        element.append(this.element(child, depth + 1));
      } else if (child.text !== undefined) {
        if (variant === "normal") element.setAttribute("mathvariant", "normal");
        element.append(styled(child.text, variant));
      } else {
        this.children(child, element, depth + 1, variant);
      }
    }
  }
}

function isLength(text: string): boolean {
  return LENGTH.test(text) && Math.abs(Number.parseFloat(text)) <= 100;
}
