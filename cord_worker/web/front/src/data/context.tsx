/** The site and its documents for all components, and the hook that loads a document and keeps it fresh. */
import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import type { Site } from "./documents";
import { type Source, NotThere, Unreachable } from "./source";

export interface Data {
  readonly site: Site;
  readonly source: Source;
  /** Called after every answer, so that the page can say when it last heard from the server. */
  readonly heard: (ok: boolean) => void;
}

export const DataContext = createContext<Data | null>(null);

export function useData(): Data {
  const data = useContext(DataContext);
  if (data === null) throw new Error("There is no DataContext around this component.");
  return data;
}

export interface Asked<T> {
  readonly document: T | null;
  /** What went wrong; an older document may still be there. */
  readonly error: string | null;
  readonly isMissing: boolean;
}

const NOTHING = { document: null, error: null, isMissing: false } as const;

/**
 * The document at `path` (null: none). In a live site it is requested again until `isFinal` says that it cannot change,
 * but not while the page is hidden.
 */
export function useDocument<T>(path: string | null, isFinal: (document: T) => boolean): Asked<T> {
  const { site, source, heard } = useData();
  const [asked, setAsked] = useState<Asked<T> & { path: string | null }>({ ...NOTHING, path: null });
  const final = useRef(isFinal);
  final.current = isFinal;

  useEffect(() => {
    if (path === null) return;
    let stopped = false;
    let timer: number | undefined;
    let version: string | null = null;

    const again = (): void => {
      if (stopped || !site.is_live) return;
      timer = window.setTimeout(() => void load(), site.poll_seconds * 1000);
    };
    const load = async (): Promise<void> => {
      if (document.hidden && version !== null) return again();
      try {
        const loaded = await source.load(path);
        if (stopped) return;
        heard(true);
        if (version === null || loaded.version === "" || loaded.version !== version) {
          version = loaded.version;
          setAsked({ document: loaded.document as T, error: null, isMissing: false, path });
        } else {
          setAsked((before) => (before.error === null ? before : { ...before, error: null }));
        }
        if (!final.current(loaded.document as T)) again();
      } catch (error) {
        if (stopped) return;
        heard(!(error instanceof Unreachable));
        const isMissing = error instanceof NotThere;
        const message = error instanceof Error ? error.message : String(error);
        setAsked((before) => ({ document: before.path === path ? before.document : null, error: message, isMissing, path }));
        if (!isMissing) again();
      }
    };
    const shown = (): void => {
      if (!document.hidden && timer !== undefined) {
        window.clearTimeout(timer);
        void load();
      }
    };
    document.addEventListener("visibilitychange", shown);
    void load();
    return () => {
      stopped = true;
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [path, site, source, heard]);

  return asked.path === path ? asked : NOTHING;
}

/** For documents that never change. */
export const always = (): boolean => true;
