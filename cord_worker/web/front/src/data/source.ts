/** Where documents come from: the server or folder that holds the page, or elements of the page itself. */
import type { Site } from "./documents";

/** A document as it arrived; `version` is equal for equal contents. */
export interface Loaded {
  readonly document: unknown;
  readonly version: string;
}

export interface Source {
  /** The document at `path`, with its query if it has one. Throws `NotThere`, `Refused` or `Unreachable`. */
  load(path: string): Promise<Loaded>;
}

/** There is no such document. */
export class NotThere extends Error {}

/** The server refuses to give the document. */
export class Refused extends Error {}

/** The server does not answer, or answers with something else than a document. A later request may succeed. */
export class Unreachable extends Error {}

class FetchedDocuments implements Source {
  private readonly known = new Map<string, Loaded>();

  async load(path: string): Promise<Loaded> {
    const before = this.known.get(path);
    const headers: Record<string, string> = { Accept: "application/json" };
    if (before !== undefined && before.version !== "") headers["If-None-Match"] = before.version;
    const response = await this.ask(path, headers);
    if (response.status === 304 && before !== undefined) return before;
    if (response.status === 404) throw new NotThere(await messageOf(response, "There is no such document."));
    if (response.status >= 400 && response.status < 500) {
      throw new Refused(await messageOf(response, `The server refused with ${response.status}.`));
    }
    if (!response.ok) throw new Unreachable(await messageOf(response, `The server answered ${response.status}.`));
    let document: unknown;
    try {
      document = await response.json();
    } catch {
      throw new Unreachable("The answer of the server is not a document of this view.");
    }
    const loaded = { document, version: response.headers.get("ETag") ?? "" };
    if (loaded.version !== "") this.remember(path, loaded);
    return loaded;
  }

  private async ask(path: string, headers: Record<string, string>): Promise<Response> {
    try {
      return await fetch(new URL(path, document.baseURI), { headers, cache: "no-store", credentials: "same-origin" });
    } catch {
      throw new Unreachable(
        location.protocol === "file:"
          ? "A browser does not let a page read other files. Serve this folder, for example with: python -m http.server"
          : "The server does not answer.",
      );
    }
  }

  private remember(path: string, loaded: Loaded): void {
    this.known.delete(path);
    this.known.set(path, loaded);
    for (const oldest of this.known.keys()) {
      if (this.known.size <= 300) break;
      this.known.delete(oldest);
    }
  }
}

/** The server's own message if it is a short plain text, else `otherwise`. */
async function messageOf(response: Response, otherwise: string): Promise<string> {
  const text = (await response.text().catch(() => "")).trim();
  return text !== "" && text.length < 500 && !text.startsWith("<") && !text.startsWith("{") ? text : otherwise;
}

class EmbeddedDocuments implements Source {
  async load(path: string): Promise<Loaded> {
    const element = document.querySelector<HTMLScriptElement>(`script[data-path="${CSS.escape(path)}"]`);
    if (element === null) throw new NotThere("This report does not contain the document.");
    return { document: await parsed(element), version: "report" };
  }
}

/** The JSON of an element, which may be compressed: gzip in base64. */
async function parsed(element: HTMLScriptElement): Promise<unknown> {
  const text = element.textContent ?? "";
  if (element.dataset["encoding"] !== "gzip") return JSON.parse(text);
  const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

export function sourceOf(site: Site): Source {
  return site.size === "report" ? new EmbeddedDocuments() : new FetchedDocuments();
}

/** The `Site` that the page holds. */
export function siteOfPage(): Site {
  const element = document.getElementById("site");
  if (element === null) throw new Error("The page has no element with the id 'site'.");
  return JSON.parse(element.textContent ?? "") as Site;
}
