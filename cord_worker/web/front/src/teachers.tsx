/** A teacher's colour and mark: the same on every page, and distinguishable without colour. */
import type { VNode } from "preact";

/** Colours of the style sheet: `.teacher-0` to `.teacher-7`. */
const COLOURS = 8;

const MARKS: readonly string[] = [
  "M1 1h8v8h-8z", // square
  "M5 0.4a4.6 4.6 0 1 1 0 9.2a4.6 4.6 0 1 1 0-9.2z", // disc
  "M5 0.2l4.8 9.2h-9.6z", // triangle
  "M5 0l5 5-5 5-5-5z", // diamond
  "M3.4 0.6h3.2v2.8h2.8v3.2h-2.8v2.8h-3.2v-2.8h-2.8v-3.2h2.8z", // plus
  "M5 9.8l-4.8-9.2h9.6z", // triangle downwards
  "M0.4 2.8h9.2v4.4h-9.2z", // bar
  "M2.8 0.4h4.4v9.2h-4.4z", // pillar
];

export function teacherClass(index: number): string {
  return `teacher-${index % COLOURS}`;
}

export function Mark({ teacher }: { teacher: number }): VNode {
  const shape = MARKS[(teacher + Math.floor(teacher / COLOURS)) % MARKS.length];
  return (
    <svg class={`mark ${teacherClass(teacher)}`} viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
      <path d={shape} />
    </svg>
  );
}
