/** Text that a model, a dataset or a user wrote: shown as text, isolated from the page around it. */
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count } from "../numbers";
import { mathElement } from "./math";
import { type Segment, segments } from "./segments";
import { stretches, visible } from "./visible";

/** The rest of a longer text is shown on demand; maths beyond the limit is shown as its source. */
const SHOWN_AT_ONCE = 20_000;
const MOST_MATHS = 400;

function Escaped({ text }: { text: string }): VNode {
  return (
    <>
      {stretches(text).map((stretch, place) =>
        stretch.escaped ? (
          <span key={place} class="escape" title="An invisible character">
            {stretch.text}
          </span>
        ) : (
          stretch.text
        ),
      )}
    </>
  );
}

const cache = new Map<string, Element | null>();

function rendered(source: string, display: boolean): Element | null {
  const key = (display ? "D" : "I") + source;
  let element = cache.get(key);
  if (element === undefined) {
    element = visible(source) === source.replace(/\s+/g, " ") ? mathElement(source, display) : null;
    if (cache.size > 5_000) cache.clear();
    cache.set(key, element);
  }
  return element;
}

function Maths({ text, source, display }: { text: string; source: string; display: boolean }): VNode {
  const place = useRef<HTMLSpanElement>(null);
  const element = rendered(text, display);
  useLayoutEffect(() => {
    if (element !== null) place.current?.replaceChildren(element.cloneNode(true));
  }, [element]);
  if (element === null) {
    return (
      <code class="tex">
        <Escaped text={source} />
      </code>
    );
  }
  return <span ref={place} class={display ? "maths display" : "maths"} />;
}

/** A whole text, with its line ends and its maths. */
export function ModelText({ text, plain = false }: { text: string; plain?: boolean }): VNode {
  const [isWhole, setWhole] = useState(false);
  // The model wrote the space before the text, but it would look like a crooked margin; the source shows it.
  const shown = plain ? text : text.replace(/^[ \t]*\n*[ \t]*/, "");
  const part = isWhole ? shown : shown.slice(0, SHOWN_AT_ONCE);
  const pieces = useMemo(() => (plain ? null : segments(part)), [part, plain]);
  let maths = 0;
  return (
    <div class="model-text" dir="auto">
      {pieces === null ? (
        <Escaped text={part} />
      ) : (
        pieces.map((piece, place) => {
          if (piece.kind === "math") maths += 1;
          return piece.kind === "text" || maths > MOST_MATHS ? (
            <Escaped key={place} text={besideDisplay(piece.source, pieces[place - 1], pieces[place + 1])} />
          ) : (
            <Maths key={place} text={piece.text} source={piece.source} display={piece.display} />
          );
        })
      )}
      {part.length < shown.length && (
        <button type="button" class="more" onClick={() => setWhole(true)}>
          Show the other {count(shown.length - part.length)} characters
        </button>
      )}
    </div>
  );
}

/** Displayed maths is a paragraph, so spaces and a line end next to it would add a second gap. */
function besideDisplay(text: string, before: Segment | undefined, after: Segment | undefined): string {
  const rest = before?.display === true ? text.replace(/^[ \t]*\n?[ \t]*/, "") : text;
  return after?.display === true ? rest.replace(/[ \t]*\n?[ \t]*$/, "") : rest;
}

/** Characters at the end of an id that are always shown. */
const ID_END = 10;

/** An id on one line. Where it is too long, its beginning is cut, because ids often differ only at their ends. */
export function Id({ text }: { text: string }): VNode {
  const characters = [...text];
  const end = characters.slice(-ID_END).join("");
  const start = characters.slice(0, -ID_END).slice(0, 200).join("");
  return (
    <bdi class="name id" title={visible(text.slice(0, 300))}>
      {start !== "" && <span class="id-start">{visible(start)}</span>}
      <span class="id-end">{visible(end)}</span>
    </bdi>
  );
}

/** A name or an excerpt on one line. */
export function Name({ text, most = 200 }: { text: string; most?: number }): VNode {
  const part = text.length > most ? `${text.slice(0, most)}…` : text;
  return <bdi class="name">{visible(part)}</bdi>;
}
