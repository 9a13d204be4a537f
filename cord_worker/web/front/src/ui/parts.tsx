/** Small parts that all pages use. */
import type { ComponentChildren, VNode } from "preact";
import { useId, useState } from "preact/hooks";
import { correctness, words } from "../numbers";
import { Name } from "../text/ModelText";

/** A state as a word in its colour. */
export function State({ state }: { state: string }): VNode {
  return <span class={`state state-${/^[a-z]+$/.test(state) ? state : "other"}`}>{words(state)}</span>;
}

/** Why its spending limit paused the run, with the figures at that moment; nothing for null. */
export function PauseReason({ reason }: { reason: string | null }): VNode | null {
  if (reason === null) return null;
  return (
    <span class="sub pause-reason">
      by its spending limit; found at the pause: <Name text={reason} />
    </span>
  );
}

export function Correct({ value }: { value: number | boolean | null }): VNode {
  const kind = correctness(value);
  const sign = { right: "✓", wrong: "✗", undecided: "?", partly: "◐" }[kind];
  const text = kind === "partly" ? `${Math.round(Number(value) * 100)} % right` : kind;
  return (
    <span class={`correct correct-${kind}`}>
      <span aria-hidden="true">{sign}</span> {text}
    </span>
  );
}

/** A key figure with its name. */
export function Figure({ label, value, note, title }: { label: string; value: ComponentChildren; note?: ComponentChildren; title?: string }): VNode {
  return (
    <div class="figure" {...(title === undefined ? {} : { title })}>
      <dt>{label}</dt>
      <dd>
        <span class="figure-value">{value}</span>
        {note !== undefined && <span class="figure-note">{note}</span>}
      </dd>
    </div>
  );
}

/** A titled part of a page. `numbers` makes a table, which the button Numbers shows in place of the drawing. */
export function Card(props: {
  title: string;
  note?: ComponentChildren;
  wide?: boolean;
  numbers?: () => ComponentChildren;
  children: ComponentChildren;
}): VNode {
  const id = useId();
  const [isTable, setTable] = useState(false);
  return (
    <section class={props.wide === true ? "card wide" : "card"} aria-labelledby={id}>
      <header class="card-head">
        <h2 id={id}>{props.title}</h2>
        {props.numbers !== undefined && (
          <button type="button" class="quiet" aria-pressed={isTable} onClick={() => setTable(!isTable)}>
            Numbers
          </button>
        )}
      </header>
      {props.note !== undefined && <p class="card-note">{props.note}</p>}
      {isTable && props.numbers !== undefined ? <div class="table-scroll" tabIndex={0}>{props.numbers()}</div> : props.children}
    </section>
  );
}

export function Empty({ children }: { children: ComponentChildren }): VNode {
  return <p class="empty">{children}</p>;
}

/** Shown in place of a document that is not loaded yet, or cannot be loaded. */
export function Waiting({ error, isMissing }: { error: string | null; isMissing: boolean }): VNode {
  if (error === null) return <p class="empty" role="status">Loading …</p>;
  return (
    <div class="trouble" role="alert">
      <strong>{isMissing ? "Not found." : "This cannot be shown now."}</strong> {error}
    </div>
  );
}

/** Notes about what a document leaves out. */
export function Notes({ notes }: { notes: readonly string[] }): VNode | null {
  if (notes.length === 0) return null;
  return (
    <ul class="notes">
      {notes.map((note) => (
        <li key={note}>{note}</li>
      ))}
    </ul>
  );
}

export interface Choice<T extends string> {
  readonly value: T;
  readonly label: string;
}

/** Adjacent buttons, one for each choice, of which one is pressed. */
export function Choices<T extends string>(props: {
  label: string;
  choices: readonly Choice<T>[];
  value: T;
  onChange: (value: T) => void;
}): VNode {
  return (
    <div class="choices" role="group" aria-label={props.label}>
      {props.choices.map(({ value, label }) => (
        <button key={value} type="button" aria-pressed={value === props.value} onClick={() => props.onChange(value)}>
          {label}
        </button>
      ))}
    </div>
  );
}
