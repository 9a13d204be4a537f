/**
 * Rows of a long table. A server filters and sorts, and rows are requested page by page as they come into view. A bundle
 * or report has all rows, and this file filters and sorts them.
 */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { always, useData, useDocument } from "./context";
import { NotThere, Unreachable } from "./source";

/** A table: a column an array, all of the same length. */
export type Table = object;

/** One row of it. */
export type RowOf<T extends Table> = { [K in keyof T]: T[K] extends readonly (infer V)[] ? V : never };

/** What both lists of documents.py have in common. */
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
  /** The value from which the row was made; the row is the same while this value is. */
  readonly origin: (index: number) => unknown;
  /** Says which rows are in view. */
  readonly need: (from: number, until: number) => void;
  readonly error: string | null;
  readonly isMissing: boolean;
}

export interface Order {
  readonly sort: string;
  readonly descending: boolean;
}

export interface Asking<T extends Table> {
  readonly path: string | null;
  /** Filters as a server takes them; empty ones are left out. */
  readonly filters: Readonly<Record<string, string>>;
  readonly order: Order;
  /** The same filters, for rows that are all here: whether row `index` of the table passes. */
  readonly passes: (table: T, index: number) => boolean;
  readonly isFinal: boolean;
}

const PAGE = 500;

function rowOf<T extends Table>(table: T, index: number): RowOf<T> {
  const row: Record<string, unknown> = {};
  for (const [name, column] of Object.entries(table)) row[name] = (column as readonly unknown[])[index];
  return row as RowOf<T>;
}

/** Whether a text contains another one, which is in lower case; the text may be in either case. */
export function contains(text: string | undefined, part: string): boolean {
  return text !== undefined && text.toLowerCase().includes(part);
}

function lengthOf(table: Table): number {
  return (Object.values(table)[0] as readonly unknown[] | undefined)?.length ?? 0;
}

/** `rows` of a server or of a complete document: one of the two hooks does nothing. */
export function useRows<D extends Part<T>, T extends Table>(asking: Asking<T>): Rows<D, T> {
  const { site } = useData();
  const isServer = site.size === "server";
  const paged = usePages<D, T>(isServer ? asking.path : null, asking);
  const complete = useComplete<D, T>(isServer ? null : asking.path, asking);
  return isServer ? paged : complete;
}

interface Pages<D> {
  readonly key: string;
  readonly documents: ReadonlyMap<number, D>;
  readonly first: D | null;
}

function usePages<D extends Part<T>, T extends Table>(path: string | null, asking: Asking<T>): Rows<D, T> {
  const { site, source, heard } = useData();
  const parameters = new URLSearchParams(asking.filters);
  parameters.set("sort", asking.order.sort);
  parameters.set("order", asking.order.descending ? "desc" : "asc");
  parameters.set("limit", String(PAGE));
  const key = `${path}?${parameters}`;

  // Rows of the last question stay until the first ones of the next are here, so that typing does not flicker.
  const [pages, setPages] = useState<Pages<D>>({ key: "", documents: new Map(), first: null });
  const [trouble, setTrouble] = useState<{ error: string; isMissing: boolean } | null>(null);
  const wanted = useRef(new Set<number>([0]));
  const asked = useRef(new Set<string>());
  const present = useRef(key);
  present.current = key;

  const load = useCallback(
    async (page: number): Promise<void> => {
      const request = `${key}&offset=${page * PAGE}`;
      if (path === null || asked.current.has(request)) return;
      asked.current.add(request);
      try {
        const { document } = await source.load(request);
        heard(true);
        if (present.current !== key) return;
        setTrouble(null);
        setPages((before) => {
          const kept = before.key === key ? before.documents : new Map<number, D>();
          if (kept.get(page) === document) return before;
          const documents = new Map(kept).set(page, document as D);
          return { key, documents, first: page === 0 || before.first === null || before.key !== key ? (document as D) : before.first };
        });
      } catch (error) {
        heard(!(error instanceof Unreachable));
        if (present.current === key) {
          setTrouble({
            error: error instanceof Error ? error.message : String(error),
            isMissing: error instanceof NotThere,
          });
        }
      } finally {
        asked.current.delete(request);
      }
    },
    [key, path, source, heard],
  );

  useEffect(() => {
    wanted.current = new Set([0]);
    void load(0);
  }, [load]);

  useEffect(() => {
    if (path === null || !site.is_live || asking.isFinal) return;
    const timer = window.setInterval(() => {
      if (document.hidden) return;
      for (const page of new Set([0, ...wanted.current])) void load(page);
    }, site.poll_seconds * 1000);
    return () => window.clearInterval(timer);
  }, [load, path, site, asking.isFinal]);

  const need = useCallback(
    (from: number, until: number): void => {
      if (pages.key !== key) return;
      const needed = new Set<number>();
      for (let page = Math.floor(from / PAGE); page <= Math.floor(Math.max(until - 1, 0) / PAGE); page += 1) {
        needed.add(page);
        if (!pages.documents.has(page)) void load(page);
      }
      wanted.current = needed;
    },
    [pages, key, load],
  );

  const at = (index: number): RowOf<T> | undefined => {
    const page = pages.documents.get(Math.floor(index / PAGE));
    const place = index % PAGE;
    return page === undefined || place >= lengthOf(page.rows) ? undefined : rowOf(page.rows, place);
  };
  return {
    document: pages.first,
    matching: pages.first?.matching ?? 0,
    at,
    origin: (index) => pages.documents.get(Math.floor(index / PAGE)),
    need,
    error: trouble?.error ?? null,
    isMissing: trouble?.isMissing ?? false,
  };
}

function useComplete<D extends Part<T>, T extends Table>(path: string | null, asking: Asking<T>): Rows<D, T> {
  const { document, error, isMissing } = useDocument<D>(path, always);
  const question = JSON.stringify([asking.filters, asking.order]);
  const indices = useMemo(
    () => (document === null ? [] : ordered(document.rows, asking.passes, asking.order)),
    [document, question],
  );
  const at = (index: number): RowOf<T> | undefined => {
    const place = indices[index];
    return document === null || place === undefined ? undefined : rowOf(document.rows, place);
  };
  return { document, matching: indices.length, at, origin: () => indices, need: () => undefined, error, isMissing };
}

/** Indices of the rows that pass, in order; rows without the figure come last in both orders, equal ones as they were. */
function ordered<T extends Table>(table: T, passes: Asking<T>["passes"], order: Order): number[] {
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
