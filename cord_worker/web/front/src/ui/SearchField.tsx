/** A search field that searches after a pause in typing. `/` focuses it; Escape empties it and leaves it. */
import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useKeys } from "../keys";

let isAwaited = false;

/** Makes the next search field take the focus: for a key that opens a page with a search field. */
export function awaitSearch(): void {
  isAwaited = true;
}

export function SearchField(props: { label: string; value: string; onSearch: (text: string) => void }): VNode {
  const field = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(props.value);
  const sent = useRef(props.value);
  useEffect(() => {
    if (props.value !== sent.current) {
      sent.current = props.value;
      setText(props.value);
    }
  }, [props.value]);
  useEffect(() => {
    if (text === sent.current) return;
    const timer = window.setTimeout(() => {
      sent.current = text;
      props.onSearch(text);
    }, 180);
    return () => window.clearTimeout(timer);
  }, [text]);
  useEffect(() => {
    if (isAwaited) field.current?.focus();
    isAwaited = false;
  }, []);
  useKeys({
    "/": () => {
      field.current?.focus();
      field.current?.select();
    },
    Escape: () => {
      if (document.activeElement !== field.current) return false;
      setText("");
      field.current?.blur();
      return true;
    },
  });
  return (
    <label class="search">
      <span class="hidden">{props.label}</span>
      <input
        ref={field}
        type="search"
        value={text}
        placeholder={`${props.label}  ( / )`}
        maxLength={200}
        spellcheck={false}
        autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)}
      />
    </label>
  );
}
