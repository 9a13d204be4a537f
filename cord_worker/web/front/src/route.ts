/** Pages and their addresses. An address is the part after `#`, so that each page has a link in a bundle or report too. */
import { useEffect, useState } from "preact/hooks";

export type Route =
  | { readonly page: "runs" }
  | { readonly page: "run"; readonly run: string }
  | { readonly page: "problems"; readonly run: string; readonly query: URLSearchParams }
  | { readonly page: "problem"; readonly run: string; readonly position: number; readonly query: URLSearchParams }
  | { readonly page: "compare"; readonly a: string | null; readonly b: string | null; readonly query: URLSearchParams }
  | { readonly page: "unknown" };

const SEGMENT = /^[A-Za-z0-9_~-]+$/;

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter((part) => part !== "");
  const parameters = new URLSearchParams(query);
  if (!parts.every((part) => SEGMENT.test(part))) return { page: "unknown" };
  const [first, second, third, fourth] = parts;
  if (first === undefined || (first === "runs" && second === undefined)) return { page: "runs" };
  if (first === "compare" && parts.length <= 3) {
    return { page: "compare", a: second ?? null, b: third ?? null, query: parameters };
  }
  if (first !== "runs" || second === undefined) return { page: "unknown" };
  if (third === undefined) return { page: "run", run: second };
  if (third !== "problems" || parts.length > 4) return { page: "unknown" };
  if (fourth === undefined) return { page: "problems", run: second, query: parameters };
  const position = Number(fourth);
  if (!Number.isSafeInteger(position) || position < 0) return { page: "unknown" };
  return { page: "problem", run: second, position, query: parameters };
}

function withQuery(path: string, query?: Record<string, string | number | null | undefined>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? path : `${path}?${text}`;
}

type Query = Record<string, string | number | null | undefined>;

export const address = {
  runs: (): string => "#/",
  run: (run: string): string => `#/runs/${run}`,
  problems: (run: string, query?: Query): string => withQuery(`#/runs/${run}/problems`, query),
  problem: (run: string, position: number, query?: Query): string =>
    withQuery(`#/runs/${run}/problems/${position}`, query),
  compare: (a: string | null, b: string | null, query?: Query): string =>
    withQuery(["#/compare", a, b].filter((part) => part !== null).join("/"), query),
};

/** Follows a link; with `replace` the page before it is not kept in the browser's history. */
export function go(to: string, { replace = false } = {}): void {
  if (to === location.hash) return;
  if (replace) {
    history.replaceState(null, "", to);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = to;
  }
}

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = (): void => setRoute(parse(location.hash));
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}
