/** TanStack's virtual list for Preact. Only what is near the visible part of a scrolled element is rendered. */
import { type VirtualItem, Virtualizer, elementScroll, observeElementOffset, observeElementRect } from "@tanstack/virtual-core";
import type { RefObject } from "preact";
import { useLayoutEffect, useReducer, useState } from "preact/hooks";

export interface VirtualOptions {
  readonly scroller: RefObject<HTMLElement | null>;
  readonly count: number;
  readonly size: number;
  readonly isHorizontal?: boolean;
  readonly overscan?: number;
  /** Pixels at the beginning of the scrolled element that a sticky header covers. */
  readonly covered?: number;
}

export interface Virtual {
  readonly items: readonly VirtualItem[];
  readonly total: number;
  readonly scrollTo: (index: number, align?: "auto" | "start" | "center") => void;
}

export function useVirtual(options: VirtualOptions): Virtual {
  const [, render] = useReducer<number, void>((count) => count + 1, 0);
  const settings = {
    count: options.count,
    getScrollElement: () => options.scroller.current,
    estimateSize: () => options.size,
    overscan: options.overscan ?? 8,
    horizontal: options.isHorizontal ?? false,
    scrollPaddingStart: options.covered ?? 0,
    scrollPaddingEnd: 8,
    initialRect: { width: 1000, height: 800 },
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => render(),
  } as const;
  const [virtualizer] = useState(() => new Virtualizer<HTMLElement, HTMLElement>(settings));
  virtualizer.setOptions(settings);
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  useLayoutEffect(() => virtualizer._willUpdate());
  return {
    items: virtualizer.getVirtualItems(),
    total: virtualizer.getTotalSize(),
    scrollTo: (index, align = "auto") => virtualizer.scrollToIndex(index, { align }),
  };
}
