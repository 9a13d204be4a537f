/**
 * Maths as MathML elements that are made one by one from KaTeX's tree. No markup is ever parsed: elements, attributes
 * and styles that are not listed here do not exist in the page.
 */
import { __renderToDomTree as renderTree } from "katex";
import { styled } from "./alphabets";

const NAMESPACE = "http://www.w3.org/1998/Math/MathML";

/** Trees beyond these are shown as text: such input is an attack on the browser, not maths. */
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

/** Lengths are bounded here too: `maxSize` of KaTeX bounds those that an author writes, not those that add up. */
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

/** The MathML of `source`, or null if it is no maths that can be shown; then show its text. */
export function mathElement(source: string, display: boolean): Element | null {
  // KaTeX draws a command that it does not trust, such as \href, as its name, without the text that it holds.
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
    return null; // an error of the input, or a stack that it exhausted: the source is shown
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
