/** The theme, light or dark: that of the system until the reader chooses one. */
import { useEffect, useState } from "preact/hooks";

export type Theme = "system" | "light" | "dark";

const KEY = "cord-theme";
const listeners = new Set<() => void>();

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system"; // a page of a file may have no storage
  }
}

let current: Theme = stored();

function apply(): void {
  if (current === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = current;
  for (const listener of listeners) listener();
}

export function setTheme(theme: Theme): void {
  current = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // without storage, the choice holds for this page only
  }
  apply();
}

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
prefersDark.addEventListener("change", () => apply());
apply();

/** The chosen theme, and whether the page is dark now. The component is rendered again when either changes. */
export function useTheme(): { theme: Theme; isDark: boolean } {
  const [, setCount] = useState(0);
  useEffect(() => {
    const changed = (): void => setCount((count) => count + 1);
    listeners.add(changed);
    return () => {
      listeners.delete(changed);
    };
  }, []);
  return { theme: current, isDark: current === "dark" || (current === "system" && prefersDark.matches) };
}
