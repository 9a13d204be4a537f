/** The site and its documents for all components, and the hook that loads a document and keeps it up to date. */
import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import type { Site } from "./documents";
import { type Source, NotThere, Unreachable } from "./source";

export interface Data {
  readonly site: Site;
  readonly source: Source;
  /** Called after every request with whether the server answered, so that the page can show when it last did. */
  readonly onContact: (ok: boolean) => void;
}

export const DataContext = createContext<Data | null>(null);

export function useData(): Data {
  const data = useContext(DataContext);
  if (data === null) throw new Error("There is no DataContext around this component.");
  return data;
}

export interface Requested<T> {
  readonly document: T | null;
  /** Why the last request failed; `document` may still be an older one. */
  readonly error: string | null;
  readonly isMissing: boolean;
}

const NOTHING = { document: null, error: null, isMissing: false } as const;

/**
 * The document at `path`; with null, none is loaded. In a live site it is requested again until `isFinal` says that it
 * cannot change, but not while the page is hidden.
 */
export function useDocument<T>(path: string | null, isFinal: (document: T) => boolean): Requested<T> {
  const { site, source, onContact } = useData();
  const [requested, setRequested] = useState<Requested<T> & { path: string | null }>({ ...NOTHING, path: null });
  const final = useRef(isFinal);
  final.current = isFinal;

  useEffect(() => {
    if (path === null) return;
    let stopped = false;
    let timer: number | undefined;
    let version: string | null = null;

    const loadLater = (): void => {
      if (stopped || !site.is_live) return;
      timer = window.setTimeout(() => void load(), site.poll_seconds * 1000);
    };
    const load = async (): Promise<void> => {
      if (document.hidden && version !== null) return loadLater();
      try {
        const loaded = await source.load(path);
        if (stopped) return;
        onContact(true);
        if (version === null || loaded.version === "" || loaded.version !== version) {
          version = loaded.version;
          setRequested({ document: loaded.document as T, error: null, isMissing: false, path });
        } else {
          setRequested((before) => (before.error === null ? before : { ...before, error: null }));
        }
        if (!final.current(loaded.document as T)) loadLater();
      } catch (error) {
        if (stopped) return;
        onContact(!(error instanceof Unreachable));
        const isMissing = error instanceof NotThere;
        const message = error instanceof Error ? error.message : String(error);
        setRequested((before) => ({ document: before.path === path ? before.document : null, error: message, isMissing, path }));
        if (!isMissing) loadLater();
      }
    };
    const visibilityChanged = (): void => {
      if (!document.hidden && timer !== undefined) {
        window.clearTimeout(timer);
        void load();
      }
    };
    document.addEventListener("visibilitychange", visibilityChanged);
    void load();
    return () => {
      stopped = true;
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", visibilityChanged);
    };
  }, [path, site, source, onContact]);

  return requested.path === path ? requested : NOTHING;
}

/** The `isFinal` of documents that never change. */
export const always = (): boolean => true;
