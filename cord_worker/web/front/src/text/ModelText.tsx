/** Text that a model, a dataset or a user wrote: shown as text, isolated from the page around it. */
import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count } from "../numbers";
import { mathElement } from "./math";
import { type Segment, segments } from "./segments";
import { stretches, visible } from "./visible";

/** Characters of a text that are shown at first; a button shows the rest. */
const SHOWN_AT_ONCE = 20_000;
/** Pieces of maths of a text that are rendered; further ones are shown as their source. */
const MOST_MATHS = 400;

function Escaped({ text }: { text: string }): VNode {
  return (
    <>
      {stretches(text).map((stretch, index) =>
        stretch.escaped ? (
          <span key={index} class="escape" title="An invisible character">
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
  // Space before the text is left out, because it would look like a crooked margin. The source view shows it.
  const shown = plain ? text : text.replace(/^[ \t]*\n*[ \t]*/, "");
  const part = isWhole ? shown : shown.slice(0, SHOWN_AT_ONCE);
  const pieces = useMemo(() => (plain ? null : segments(part)), [part, plain]);
  let maths = 0;
  return (
    <div class="model-text" dir="auto">
      {pieces === null ? (
        <Escaped text={part} />
      ) : (
        pieces.map((piece, index) => {
          if (piece.kind === "math") maths += 1;
          return piece.kind === "text" || maths > MOST_MATHS ? (
            <Escaped key={index} text={withoutSpaceNextToMaths(piece.source, pieces[index - 1], pieces[index + 1])} />
          ) : (
            <Maths key={index} text={piece.text} source={piece.source} display={piece.display} />
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
function withoutSpaceNextToMaths(text: string, before: Segment | undefined, after: Segment | undefined): string {
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
