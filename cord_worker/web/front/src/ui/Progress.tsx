/** The progress of a run: its problems by state in one bar. */
import type { VNode } from "preact";
import { count, words } from "../numbers";

const ORDER = ["done", "failed", "cancelled", "verifying", "answering", "searching", "queued"] as const;
const FINAL = ["done", "failed", "cancelled"] as const;

export function Progress({ problems, total }: { problems: Readonly<Record<string, number>>; total: number }): VNode {
  const parts = ORDER.map((state) => [state, problems[state] ?? 0] as const).filter(([, number]) => number > 0);
  const ended = FINAL.reduce((sum, state) => sum + (problems[state] ?? 0), 0);
  const description = parts.map(([state, number]) => `${count(number)} ${words(state)}`).join(", ");
  return (
    <div class="progress">
      <div class="progress-bar" role="img" aria-label={description || "no problems"} title={description}>
        {parts.map(([state, number]) => (
          <span key={state} class={`part-${state}`} style={{ flexGrow: number }} />
        ))}
      </div>
      <span class="progress-text">{ended === total ? count(total) : `${count(ended)} of ${count(total)}`}</span>
    </div>
  );
}
