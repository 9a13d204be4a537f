/** A cache of rendered parts. While nothing that a part shows has changed, it is used again, and Preact skips it. */
import type { VNode } from "preact";
import { useRef } from "preact/hooks";

export interface RenderCache {
  /** The cached part if `depends` has the same values as before, else a new one. */
  readonly part: (key: string | number, depends: readonly unknown[], render: () => VNode) => VNode;
}

interface Entry {
  readonly depends: readonly unknown[];
  readonly node: VNode;
}

/** A part that one rendering does not use is dropped from the cache. */
export function useRenderCache(): RenderCache {
  const before = useRef(new Map<string | number, Entry>());
  const now = new Map<string | number, Entry>();
  const old = before.current;
  before.current = now;
  return {
    part: (key, depends, render) => {
      const found = old.get(key);
      const entry = found !== undefined && isSame(found.depends, depends) ? found : { depends, node: render() };
      now.set(key, entry);
      return entry.node;
    },
  };
}

function isSame(one: readonly unknown[], other: readonly unknown[]): boolean {
  return one.length === other.length && one.every((value, index) => Object.is(value, other[index]));
}
