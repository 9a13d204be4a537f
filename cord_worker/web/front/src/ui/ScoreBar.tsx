/** A score with a bar that shows it between 0 and 1. */
import type { VNode } from "preact";
import { UNKNOWN, score } from "../numbers";

export function ScoreBar({ value }: { value: number | null }): VNode {
  if (value === null) return <>{UNKNOWN}</>;
  return (
    <span class="score-bar">
      <span class="score-track" aria-hidden="true">
        <span style={{ width: `${Math.min(Math.max(value, 0), 1) * 100}%` }} />
      </span>
      {score(value)}
    </span>
  );
}
