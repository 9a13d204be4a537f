import type { KatexOptions } from "katex";

declare module "katex" {
  /** KaTeX's tree before it becomes markup; its own `render` and `renderToString` begin with it. */
  export function __renderToDomTree(source: string, options: KatexOptions): unknown;
}
