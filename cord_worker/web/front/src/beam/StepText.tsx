/** The text of one candidate, which may be in a separate document. */
import type { VNode } from "preact";
import { useDocument } from "../data/context";
import type { ProblemDocument, StepTexts } from "../data/documents";
import { paths, segmentOf } from "../data/paths";
import { ModelText } from "../text/ModelText";
import { Empty, Waiting } from "../ui/parts";
import type { Grid } from "./layout";

export function isProblemFinal(problem: ProblemDocument): boolean {
  return ["done", "failed", "cancelled"].includes(problem.state);
}

/** The candidate's text if the problem's own document has it, else null. */
function inlineText({ candidates, path, path_texts }: ProblemDocument, candidate: number): string | null {
  const index = path.indexOf(candidate);
  return candidates.text[candidate] ?? path_texts[index] ?? null;
}

export function StepText({ grid, candidate, isPlain }: { grid: Grid; candidate: number; isPlain: boolean }): VNode {
  const { problem } = grid;
  const inline = inlineText(problem, candidate);
  const step = problem.candidates.step[candidate] ?? 1;
  const isSeparate = inline === null && problem.texts === "by_step";
  const path = isSeparate ? paths.texts(segmentOf(problem.run), problem.position, step) : null;
  const { document: texts, error, isMissing } = useDocument<StepTexts>(path, () => isProblemFinal(problem));
  const text = inline ?? texts?.texts[candidate - texts.first] ?? null;
  if (text !== null) return <ModelText text={text} plain={isPlain} />;
  if (isSeparate && texts === null) return <Waiting error={error} isMissing={isMissing} />;
  return <Empty>This candidate has no text{problem.candidates.state[candidate] === "invalid" ? "." : " yet."}</Empty>;
}
