/** Rendered parts that are used again while nothing that they show has changed: Preact then skips the whole part. */
import type { VNode } from "preact";
import { useRef } from "preact/hooks";

export interface Kept {
  /** The earlier part if `depends` is the same list of values, else a new one. */
  readonly part: (key: string | number, depends: readonly unknown[], render: () => VNode) => VNode;
}

interface Entry {
  readonly depends: readonly unknown[];
  readonly node: VNode;
}

/** Parts that one rendering does not use are forgotten. */
export function useKept(): Kept {
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
  return one.length === other.length && one.every((value, place) => Object.is(value, other[place]));
}
