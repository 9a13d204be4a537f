/** The known answer next to the teachers' final answers. */
import type { VNode } from "preact";
import type { FinalAnswer, ProblemDocument } from "../data/documents";
import { words } from "../numbers";
import { Mark } from "../teachers";
import { ModelText, Name } from "../text/ModelText";
import { Correct, Empty } from "../ui/parts";

export function Answers({ problem }: { problem: ProblemDocument }): VNode {
  return (
    <section class="answers" aria-label="Answers">
      <div class="answer">
        <h2>Known answer</h2>
        <div class="answer-text" tabIndex={0} role="region" aria-label="Known answer">
          <ModelText text={problem.answer} />
        </div>
      </div>
      {problem.answers.length === 0 ? (
        <div class="answer">
          <h2>Final answer</h2>
          <Empty>There is none{problem.state === "failed" ? "." : " yet."}</Empty>
        </div>
      ) : (
        problem.answers.map((answer) => <Answer key={answer.candidate} answer={answer} problem={problem} />)
      )}
    </section>
  );
}

/** What the check found, by `FinalAnswer.method`. The method says how an answer was found right, or why it was not. */
const FOUND: Readonly<Record<string, string>> = {
  exact: "Equal as text",
  math: "Mathematically equal",
  choice: "The same choice",
  numeric: "Equal within the tolerance",
  math_verify: "Equal by math-verify",
  judge: "Decided by the judge",
  unequal: "Found unequal",
  undecided: "Not decided",
  timeout: "Not decided: the check took too long",
  crashed: "Not decided: the check failed",
  unsupported: "Not decided: the known answer is unusable",
};

function Answer({ answer, problem }: { answer: FinalAnswer; problem: ProblemDocument }): VNode {
  const teacher = problem.candidates.teacher[answer.candidate] ?? 0;
  return (
    <div class="answer">
      <h2>
        Final answer <Mark teacher={teacher} /> <Correct value={answer.correct} />
      </h2>
      <div class="answer-text" tabIndex={0} role="region" aria-label="Final answer">
        {answer.text === null ? <Empty>It is not written yet.</Empty> : <ModelText text={answer.text} />}
      </div>
      {answer.method !== null && (
        <p class="sub">
          {FOUND[answer.method] ?? words(answer.method)}
          {answer.extracted !== null && answer.extracted !== "" && (
            <>
              , read as “<Name text={answer.extracted} />”
            </>
          )}
          {answer.detail !== null && answer.detail !== "" && (
            <>
              : <Name text={answer.detail} />
            </>
          )}
        </p>
      )}
    </div>
  );
}
