/** The text of one candidate, which may be in a separate document. */
import type { VNode } from "preact";
import { useDocument } from "../data/context";
import type { ProblemDocument, StepTexts } from "../data/documents";
import { paths } from "../data/paths";
import { segmentOf } from "../data/paths";
import { ModelText } from "../text/ModelText";
import { Empty, Waiting } from "../ui/parts";
import type { Grid } from "./layout";

export function isProblemFinal(problem: ProblemDocument): boolean {
  return ["done", "failed", "cancelled"].includes(problem.state);
}

/** The text if the problem's own document has it. */
function textAtHand({ candidates, path, path_texts }: ProblemDocument, candidate: number): string | null {
  const place = path.indexOf(candidate);
  return candidates.text[candidate] ?? (place < 0 ? null : (path_texts[place] ?? null));
}

export function StepText({ grid, candidate, isPlain }: { grid: Grid; candidate: number; isPlain: boolean }): VNode {
  const { problem } = grid;
  const atHand = textAtHand(problem, candidate);
  const step = problem.candidates.step[candidate] ?? 1;
  const isApart = atHand === null && problem.texts === "by_step";
  const path = isApart ? paths.texts(segmentOf(problem.run), problem.position, step) : null;
  const { document: texts, error, isMissing } = useDocument<StepTexts>(path, () => isProblemFinal(problem));
  const text = atHand ?? texts?.texts[candidate - texts.first] ?? null;
  if (text !== null) return <ModelText text={text} plain={isPlain} />;
  if (isApart && texts === null) return <Waiting error={error} isMissing={isMissing} />;
  return <Empty>It has no text{problem.candidates.state[candidate] === "invalid" ? "." : " yet."}</Empty>;
}
