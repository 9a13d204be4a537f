/** The frame of all pages: the trail of links to this page, whether it is live, the theme, and the page itself. */
import type { VNode } from "preact";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { DataContext } from "./data/context";
import type { Site } from "./data/documents";
import { nameOf } from "./data/paths";
import type { Source } from "./data/source";
import { useKeys } from "./keys";
import { moment, time } from "./numbers";
import { Compare } from "./pages/Compare";
import { Problem } from "./pages/Problem";
import { Problems } from "./pages/Problems";
import { RunPage } from "./pages/Run";
import { Runs } from "./pages/Runs";
import { type Route, address, go, useRoute } from "./route";
import { Name } from "./text/ModelText";
import { visible } from "./text/visible";
import { type Theme, setTheme, useTheme } from "./theme";
import { Help } from "./ui/Help";
import { Empty } from "./ui/parts";

/** When a document was last requested, and whether the server answered. */
interface Contact {
  readonly at: Date;
  readonly ok: boolean;
}

export function App({ site, source }: { site: Site; source: Source }): VNode {
  const route = useRoute();
  const [contact, setContact] = useState<Contact | null>(null);
  const [isHelp, setHelp] = useState(false);
  const data = useMemo(
    () => ({ site, source, onContact: (ok: boolean) => setContact({ at: new Date(), ok }) }),
    [site, source],
  );
  const { theme } = useTheme();
  const nextTheme = useCallback(() => setTheme(NEXT_THEME[theme]), [theme]);

  useEffect(() => {
    if (site.run !== null && location.hash === "") {
      go(address.run(site.run), { replace: true });
    }
  }, [site]);
  useEffect(() => {
    document.title = `${titleOf(route)} · CoRD`;
  }, [route]);
  useKeys({
    "?": () => setHelp(true),
    t: nextTheme,
    g: () => {
      const up = parentAddress(route);
      if (up !== null) go(up);
    },
  });

  return (
    <DataContext.Provider value={data}>
      <a class="skip" href="#content" onClick={(event) => focusContent(event)}>
        To the content
      </a>
      <header class="top">
        <Trail route={route} site={site} />
        <div class="top-right">
          <Freshness site={site} contact={contact} />
          <button type="button" class="quiet" onClick={nextTheme} aria-label={`Theme: ${theme}. Change it`}>
            {ICONS[theme]} <span class="wide-only">{theme}</span>
          </button>
          <button type="button" class="quiet" onClick={() => setHelp(true)} aria-label="Keys">
            <kbd>?</kbd>
          </button>
        </div>
      </header>
      <Content route={route} />
      {isHelp && <Help onClose={() => setHelp(false)} />}
    </DataContext.Provider>
  );
}

function titleOf(route: Route): string {
  switch (route.page) {
    case "run":
      return visible(nameOf(route.run));
    case "problems":
      return `Problems of ${visible(nameOf(route.run))}`;
    case "problem":
      return `Problem ${route.position} of ${visible(nameOf(route.run))}`;
    case "compare":
      return "Compare";
    default:
      return "Runs";
  }
}

const NEXT_THEME: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

function icon(path: string): VNode {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
      <path d={path} />
    </svg>
  );
}

const ICONS: Record<Theme, VNode> = {
  system: icon("M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13zM8 3v10a5 5 0 0 1 0-10z"),
  light: icon(
    "M8 5a3 3 0 1 0 0 6a3 3 0 1 0 0-6zM7.3 0.5h1.4v2.6h-1.4zM7.3 12.9h1.4v2.6h-1.4zM0.5 7.3h2.6v1.4h-2.6zM12.9 7.3h2.6v1.4h-2.6z",
  ),
  dark: icon("M6.5 1.6a6.6 6.6 0 1 0 7.9 7.9a5.4 5.4 0 0 1-7.9-7.9z"),
};

function focusContent(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function parentAddress(route: Route): string | null {
  switch (route.page) {
    case "problem":
      return address.problems(route.run);
    case "problems":
      return address.run(route.run);
    case "run":
    case "compare":
      return address.runs();
    default:
      return null;
  }
}

function Trail({ route, site }: { route: Route; site: Site }): VNode {
  const crumbs: { text: string; to: string }[] = [{ text: "Runs", to: address.runs() }];
  if (route.page === "run" || route.page === "problems" || route.page === "problem") {
    crumbs.push({ text: nameOf(route.run), to: address.run(route.run) });
  }
  if (route.page === "problems" || route.page === "problem") {
    crumbs.push({ text: "Problems", to: address.problems(route.run) });
  }
  if (route.page === "problem") {
    crumbs.push({ text: String(route.position), to: address.problem(route.run, route.position) });
  }
  if (route.page === "compare") crumbs.push({ text: "Compare", to: address.compare(route.a, route.b) });
  return (
    <nav class="trail" aria-label="Where you are">
      <span class="brand" title={`cord-worker ${site.version}`}>
        CoRD
      </span>
      <ol>
        {crumbs.map(({ text, to }, index) => (
          <li key={to}>
            <a href={to} {...(index === crumbs.length - 1 ? { "aria-current": "page" as const } : {})}>
              <Name text={text} most={40} />
            </a>
          </li>
        ))}
      </ol>
    </nav>
  );
}

function Freshness({ site, contact }: { site: Site; contact: Contact | null }): VNode {
  if (!site.is_live) return <span class="fresh">{site.made_at !== null && <>As of {moment(site.made_at)}</>}</span>;
  if (contact === null) return <span class="fresh" />;
  return (
    <span class={contact.ok ? "fresh live" : "fresh lost"}>
      <span class="dot" aria-hidden="true" />
      {contact.ok ? `Live, ${time(contact.at)}` : `No answer since ${time(contact.at)}`}
    </span>
  );
}

function Content({ route }: { route: Route }): VNode {
  const pageKey = JSON.stringify([route.page, "run" in route && route.run]);
  // Another page or run begins at the top; another problem of the same run keeps the place.
  useEffect(() => {
    window.scrollTo(0, 0);
  }, [pageKey]);
  return (
    <main id="content" tabIndex={-1} class={`page page-${route.page}`}>
      <Page route={route} />
    </main>
  );
}

function Page({ route }: { route: Route }): VNode {
  switch (route.page) {
    case "runs":
      return <Runs />;
    case "run":
      return <RunPage key={route.run} run={route.run} />;
    case "problems":
      return <Problems key={route.run} run={route.run} query={route.query} />;
    case "problem":
      return <Problem key={route.run} run={route.run} position={route.position} query={route.query} />;
    case "compare":
      return <Compare a={route.a} b={route.b} query={route.query} />;
    default:
      return (
        <Empty>
          There is no page at this address. <a href={address.runs()}>All runs</a>
        </Empty>
      );
  }
}
