/** Handlers for keys. They apply to the whole page, but not in a field (except Escape) or while a dialog is open. */
import { useEffect, useRef } from "preact/hooks";

/** Handlers by `KeyboardEvent.key`. A handler that returns false leaves the key to the browser. */
export type Keys = Readonly<Record<string, (event: KeyboardEvent) => boolean | void>>;

function isField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
}

export function useKeys(keys: Keys): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isField(event.target) && event.key !== "Escape") return;
      if (document.querySelector("dialog[open]") !== null) return;
      const handler = latest.current[event.key];
      if (handler !== undefined && handler(event) !== false) event.preventDefault();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

/** The keys that the help dialog lists: groups of keys with their meanings. */
export const HELP: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  [
    "Everywhere",
    [
      ["?", "this help"],
      ["/", "search the problems"],
      ["Esc", "leave a field, close a dialog"],
      ["t", "theme: light, dark, or that of the system"],
      ["g", "one page up: from a problem to the list, the run, all runs"],
    ],
  ],
  [
    "Lists",
    [
      ["j  k", "next, previous row"],
      ["Enter", "open the row"],
    ],
  ],
  [
    "A problem",
    [
      ["← → ↑ ↓", "move in the grid"],
      ["Home  End", "first, last step"],
      ["p  c", "to the parent, to the best child"],
      ["w", "to the winning path"],
      ["f", "show or hide the losers of this step"],
      ["F", "show or hide the losers of every step"],
      ["1  2  3", "step, trajectory, prompt"],
      ["m", "maths or source"],
      ["j  k", "next, previous problem"],
    ],
  ],
];
