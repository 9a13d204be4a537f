/** The search of one problem: its question and answers, the beam grid, and the chosen candidate. */
import type { VNode } from "preact";
import { BeamGrid } from "../beam/BeamGrid";
import { Detail } from "../beam/Detail";
import { isProblemFinal } from "../beam/StepText";
import { NearestMark } from "../beam/CellView";
import { type Beam, useBeam } from "../beam/useBeam";
import { useDocument } from "../data/context";
import type { NearestLoser, ProblemDocument } from "../data/documents";
import { paths } from "../data/paths";
import { useKeys } from "../keys";
import { count, gain, score, seconds } from "../numbers";
import { address, go } from "../route";
import { Mark } from "../teachers";
import { ModelText, Name } from "../text/ModelText";
import { visible } from "../text/visible";
import { Correct, State, Waiting } from "../ui/parts";
import { awaitSearch } from "../ui/SearchField";
import { Answers } from "./ProblemAnswers";

export function Problem({ run, position, query }: { run: string; position: number; query: URLSearchParams }): VNode {
  const { document: problem, error, isMissing } = useDocument<ProblemDocument>(paths.problem(run, position), isProblemFinal);
  const previous = problem?.previous ?? null;
  const next = problem?.next ?? null;
  useKeys({
    "/": () => {
      awaitSearch();
      go(address.problems(run));
    },
    j: () => (next === null ? undefined : go(address.problem(run, next))),
    k: () => (previous === null ? undefined : go(address.problem(run, previous))),
  });
  if (problem === null) return <Waiting error={error} isMissing={isMissing} />;
  return <Search key={position} run={run} problem={problem} query={query} />;
}

function Search({ run, problem, query }: { run: string; problem: ProblemDocument; query: URLSearchParams }): VNode {
  // The address names the chosen candidate by its index, as `c`.
  const text = query.get("c");
  const index = text === null ? NaN : Number(text);
  const isCandidate = Number.isSafeInteger(index) && index >= 0 && index < problem.candidates.step.length;
  const beam = useBeam(problem, isCandidate ? index : null, (candidate) =>
    go(address.problem(run, problem.position, { c: candidate }), { replace: true }),
  );
  return (
    <div class="problem">
      <div class="problem-main">
        <Head run={run} problem={problem} />
        <Question problem={problem} />
        <section class="beam-card" aria-label="Search">
          {problem.nearest !== null && <Nearest nearest={problem.nearest} beam={beam} />}
          <header class="beam-card-head">
            <ul class="legend teachers">
              {problem.teachers.map((teacher, index) => (
                <li key={teacher} class="legend-item">
                  <Mark teacher={index} /> <Name text={teacher} most={40} />
                </li>
              ))}
              <li class="legend-item">
                <span class="stroke winning-stroke" aria-hidden="true" /> winning path
              </li>
            </ul>
            <button type="button" class="quiet" onClick={beam.foldAll} aria-pressed={beam.open.size === beam.grid.columns.length}>
              All candidates
            </button>
          </header>
          {problem.columns.length === 0 ? (
            <p class="empty">The search has not begun.</p>
          ) : (
            <BeamGrid grid={beam.grid} open={beam.open} active={beam.active} chosen={beam.candidate} onActive={beam.setActive} onFold={beam.fold} />
          )}
        </section>
        <Answers problem={problem} />
      </div>
      <Detail beam={beam} />
    </div>
  );
}

function Head({ run, problem }: { run: string; problem: ProblemDocument }): VNode {
  return (
    <div class="page-head">
      <h1>
        <Name text={problem.id} most={60} />
      </h1>
      {problem.state === "done" ? <Correct value={problem.correct} /> : <State state={problem.state} />}
      <span class="head-facts">
        score <b>{score(problem.score)}</b>, base score <b>{score(problem.base_score)}</b>
        {problem.result_tokens !== null && (
          <>
            , winner <b>{count(problem.result_tokens)}</b> tokens
          </>
        )}
        {problem.seconds !== null && <>, in {seconds(problem.seconds)}</>}
      </span>
      <nav class="neighbours" aria-label="Neighbours in the dataset">
        <Neighbour run={run} position={problem.previous} text="← previous" />
        <Neighbour run={run} position={problem.next} text="next →" />
      </nav>
    </div>
  );
}

/** How narrowly the problem was won: the nearest loser, which the grid marks. */
function Nearest({ nearest, beam }: { nearest: NearestLoser; beam: Beam }): VNode {
  const { candidate, step, lead, repeats } = nearest;
  const name = (
    <>
      <NearestMark />
      <Name text={nearest.teacher} most={40} /> at step {step}
    </>
  );
  return (
    <p class="nearest-line">
      <span>
        Nearest loser:{" "}
        {candidate === null ? (
          name
        ) : (
          <button type="button" class="candidate-link" onClick={() => beam.choose(candidate)}>
            {name}
          </button>
        )}
        , lead <b>{gain(lead)}</b>
        {repeats && ", with the text of the winning step"}
      </span>{" "}
      <span class="nearest-text" title={visible(nearest.text)}>
        {visible(nearest.text)}
      </span>
    </p>
  );
}

function Neighbour({ run, position, text }: { run: string; position: number | null; text: string }): VNode {
  return position === null ? <span class="soft">{text}</span> : <a href={address.problem(run, position)}>{text}</a>;
}

function Question({ problem }: { problem: ProblemDocument }): VNode {
  const attributes = Object.entries(problem.attributes);
  return (
    <section class="question" aria-label="Question">
      {!problem.is_whole && (
        <ul class="notes">
          <li>This report has only the winner's steps of this problem, not the candidates that lost.</li>
        </ul>
      )}
      {problem.failure_reason !== null && (
        <div class="trouble">
          <ModelText text={problem.failure_reason} plain />
        </div>
      )}
      {problem.passage !== null && (
        <details>
          <summary>Passage</summary>
          <ModelText text={problem.passage} />
        </details>
      )}
      <div class="question-text" tabIndex={0} role="region" aria-label="Text of the question">
        <ModelText text={problem.question} />
      </div>
      {attributes.length > 0 && (
        <details>
          <summary>Other fields</summary>
          <dl class="more-facts">
            {attributes.map(([name, value]) => (
              <div key={name}>
                <dt>
                  <Name text={name} most={60} />
                </dt>
                <dd>
                  <ModelText text={typeof value === "string" ? value : JSON.stringify(value)} plain />
                </dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </section>
  );
}
