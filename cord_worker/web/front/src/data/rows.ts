/**
 * Rows of a long table. A server filters and sorts, and rows are requested page by page as they come into view. A bundle
 * or report has all rows, and this file filters and sorts them.
 */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { always, useData, useDocument } from "./context";
import { NotThere, Unreachable } from "./source";

/** A table: an object of arrays of the same length, one for each column. */
export type Table = object;

/** One row of a table. */
export type RowOf<T extends Table> = { [K in keyof T]: T[K] extends readonly (infer V)[] ? V : never };

/** What ProblemList and ComparisonDocument of documents.py have in common. */
interface Part<T extends Table> {
  readonly matching: number;
  readonly offset: number;
  readonly rows: T;
}

export interface Rows<D, T extends Table> {
  /** The document; its rows may be incomplete. Null until there is one. */
  readonly document: D | null;
  readonly matching: number;
  readonly at: (index: number) => RowOf<T> | undefined;
  /** An object that is the same as long as the row's content is. */
  readonly origin: (index: number) => unknown;
  /** To be called with the rows in view; loads those that are missing. */
  readonly need: (from: number, until: number) => void;
  readonly error: string | null;
  readonly isMissing: boolean;
}

export interface Order {
  readonly sort: string;
  readonly descending: boolean;
}

export interface RowsRequest<T extends Table> {
  readonly path: string | null;
  /** Filters as a server takes them; empty ones are left out. */
  readonly filters: Readonly<Record<string, string>>;
  readonly order: Order;
  /** The same filters for a complete table: whether row `index` of it passes. */
  readonly passes: (table: T, index: number) => boolean;
  readonly isFinal: boolean;
}

const PAGE = 500;

function rowOf<T extends Table>(table: T, index: number): RowOf<T> {
  const row: Record<string, unknown> = {};
  for (const [name, column] of Object.entries(table)) row[name] = (column as readonly unknown[])[index];
  return row as RowOf<T>;
}

/** Whether `text`, in upper or lower case, contains `part`, which is in lower case. */
export function contains(text: string | undefined, part: string): boolean {
  return text !== undefined && text.toLowerCase().includes(part);
}

function lengthOf(table: Table): number {
  return (Object.values(table)[0] as readonly unknown[] | undefined)?.length ?? 0;
}

/** The requested rows, from a server or from a complete document. Both hooks must be called; one of them gets no path. */
export function useRows<D extends Part<T>, T extends Table>(request: RowsRequest<T>): Rows<D, T> {
  const { site } = useData();
  const isServer = site.size === "server";
  const paged = usePages<D, T>(isServer ? request.path : null, request);
  const complete = useComplete<D, T>(isServer ? null : request.path, request);
  return isServer ? paged : complete;
}

interface Pages<D> {
  readonly key: string;
  readonly documents: ReadonlyMap<number, D>;
  readonly first: D | null;
}

function usePages<D extends Part<T>, T extends Table>(path: string | null, request: RowsRequest<T>): Rows<D, T> {
  const { site, source, onContact } = useData();
  const parameters = new URLSearchParams(request.filters);
  parameters.set("sort", request.order.sort);
  parameters.set("order", request.order.descending ? "desc" : "asc");
  parameters.set("limit", String(PAGE));
  const key = `${path}?${parameters}`;

  // The rows of the previous request stay until the first rows of the next one arrive, so that typing does not flicker.
  const [pages, setPages] = useState<Pages<D>>({ key: "", documents: new Map(), first: null });
  const [failure, setFailure] = useState<{ error: string; isMissing: boolean } | null>(null);
  const pagesInView = useRef(new Set<number>([0]));
  const underWay = useRef(new Set<string>());
  const currentKey = useRef(key);
  currentKey.current = key;

  const load = useCallback(
    async (page: number): Promise<void> => {
      const address = `${key}&offset=${page * PAGE}`;
      if (path === null || underWay.current.has(address)) return;
      underWay.current.add(address);
      try {
        const { document } = await source.load(address);
        onContact(true);
        if (currentKey.current !== key) return;
        setFailure(null);
        setPages((before) => {
          const kept = before.key === key ? before.documents : new Map<number, D>();
          if (kept.get(page) === document) return before;
          const documents = new Map(kept).set(page, document as D);
          const isFirst = page === 0 || before.first === null || before.key !== key;
          return { key, documents, first: isFirst ? (document as D) : before.first };
        });
      } catch (error) {
        onContact(!(error instanceof Unreachable));
        if (currentKey.current === key) {
          setFailure({
            error: error instanceof Error ? error.message : String(error),
            isMissing: error instanceof NotThere,
          });
        }
      } finally {
        underWay.current.delete(address);
      }
    },
    [key, path, source, onContact],
  );

  useEffect(() => {
    pagesInView.current = new Set([0]);
    void load(0);
  }, [load]);

  useEffect(() => {
    if (path === null || !site.is_live || request.isFinal) return;
    const timer = window.setInterval(() => {
      if (document.hidden) return;
      for (const page of new Set([0, ...pagesInView.current])) void load(page);
    }, site.poll_seconds * 1000);
    return () => window.clearInterval(timer);
  }, [load, path, site, request.isFinal]);

  const need = useCallback(
    (from: number, until: number): void => {
      if (pages.key !== key) return;
      const needed = new Set<number>();
      for (let page = Math.floor(from / PAGE); page <= Math.floor(Math.max(until - 1, 0) / PAGE); page += 1) {
        needed.add(page);
        if (!pages.documents.has(page)) void load(page);
      }
      pagesInView.current = needed;
    },
    [pages, key, load],
  );

  const at = (index: number): RowOf<T> | undefined => {
    const page = pages.documents.get(Math.floor(index / PAGE));
    const row = index % PAGE;
    return page === undefined || row >= lengthOf(page.rows) ? undefined : rowOf(page.rows, row);
  };
  return {
    document: pages.first,
    matching: pages.first?.matching ?? 0,
    at,
    origin: (index) => pages.documents.get(Math.floor(index / PAGE)),
    need,
    error: failure?.error ?? null,
    isMissing: failure?.isMissing ?? false,
  };
}

function useComplete<D extends Part<T>, T extends Table>(path: string | null, request: RowsRequest<T>): Rows<D, T> {
  const { document, error, isMissing } = useDocument<D>(path, always);
  const key = JSON.stringify([request.filters, request.order]);
  const indices = useMemo(
    () => (document === null ? [] : ordered(document.rows, request.passes, request.order)),
    [document, key],
  );
  const at = (index: number): RowOf<T> | undefined => {
    const row = indices[index];
    return document === null || row === undefined ? undefined : rowOf(document.rows, row);
  };
  return { document, matching: indices.length, at, origin: () => indices, need: () => undefined, error, isMissing };
}

/**
 * Indices of the rows that pass, in order. Rows without a value in the column come last in both orders; rows with equal
 * values keep their order.
 */
function ordered<T extends Table>(table: T, passes: RowsRequest<T>["passes"], order: Order): number[] {
  const indices: number[] = [];
  for (let index = 0; index < lengthOf(table); index += 1) {
    if (passes(table, index)) indices.push(index);
  }
  const column = (table as Record<string, readonly (number | string | null)[]>)[order.sort];
  if (column === undefined) return indices;
  const sign = order.descending ? -1 : 1;
  return indices.sort((a, b) => {
    const left = column[a] ?? null;
    const right = column[b] ?? null;
    if (left === right) return a - b;
    if (left === null) return 1;
    if (right === null) return -1;
    return (left < right ? -1 : 1) * sign || a - b;
  });
}
