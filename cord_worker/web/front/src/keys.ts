/** Keys of a page: one handler for the whole document, which leaves fields and other keys alone. */
import { useEffect, useRef } from "preact/hooks";

/** By `KeyboardEvent.key`. A handler that returns false leaves the key to the browser. */
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

/** What the help dialog lists. */
export const HELP: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  [
    "Everywhere",
    [
      ["?", "this help"],
      ["/", "search the problems"],
      ["Esc", "leave a field, close what is open"],
      ["t", "light, dark, or as the system"],
      ["g", "up: problem, list, run, runs"],
    ],
  ],
  [
    "Lists",
    [
      ["j  k", "next, previous row"],
      ["Enter", "open it"],
    ],
  ],
  [
    "A problem",
    [
      ["← → ↑ ↓", "move in the grid"],
      ["Home  End", "first, last step"],
      ["p  c", "to the parent, to the best child"],
      ["w", "to the winning path"],
      ["f", "show or fold what lost in this step"],
      ["F", "show or fold what lost in every step"],
      ["1  2  3", "step, trajectory, prompt"],
      ["m", "maths or source"],
      ["j  k", "next, previous problem"],
    ],
  ],
];
