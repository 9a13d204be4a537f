/** One run: its progress, the teachers' shares, scores and gains, cost, and failures. */
import type { VNode } from "preact";
import { GainSpreads, HistogramBars, HistogramTable } from "../charts/Bars";
import { OverTime, ScoreByStep } from "../charts/Curves";
import { ShareByTenth } from "../charts/ShareByTenth";
import { useData, useDocument } from "../data/context";
import type { RunDocument, RunSummary } from "../data/documents";
import { paths } from "../data/paths";
import { count, day, gain, percent, score, seconds, short, timeOfDay, words } from "../numbers";
import { useKeys } from "../keys";
import { address, go } from "../route";
import { Mark } from "../teachers";
import { ModelText, Name } from "../text/ModelText";
import { Card, Figure, Notes, Waiting } from "../ui/parts";
import { Progress } from "../ui/Progress";
import { awaitSearch } from "../ui/SearchField";
import { CostTable } from "./RunCost";
import { FailureLists } from "./RunFailures";
import { RunTabs } from "./RunTabs";

/** Whether the run's documents can change no more, except by a retry. */
export function isRunFinal({ run }: RunDocument): boolean {
  return run.state === "finished" || run.state === "cancelled";
}

export function RunPage({ run }: { run: string }): VNode {
  const { site } = useData();
  useKeys({
    "/": () => {
      awaitSearch();
      go(address.problems(run));
    },
  });
  const { document: about, error, isMissing } = useDocument<RunDocument>(paths.run(run), isRunFinal);
  if (about === null) return <Waiting error={error} isMissing={isMissing} />;
  return (
    <>
      <RunTabs run={run} about={about.run} page="run" />
      <Notes notes={site.left_out} />
      <Figures about={about} />
      <div class="cards">
        <ShareByTenth teachers={about.teachers} selection={about.selection} />
        <ScoreByStep scores={about.scores} />
        <Card
          title="Gain by teacher"
          note="How much a winning step adds to the score: the middle half of the steps, their median and their mean. A step that N proposals have in common counts 1/N for each."
        >
          <GainSpreads teachers={about.teachers} />
        </Card>
        <Card title="Length of the winners" numbers={() => <LengthTables about={about} />}>
          <h3 class="plot-title">Steps</h3>
          <HistogramBars label="Steps of winners" noun="winner" histogram={about.steps} />
          <h3 class="plot-title">Tokens of thinking and answer</h3>
          <HistogramBars label="Tokens of winners" noun="winner" histogram={about.tokens} />
        </Card>
        <OverTime timeline={about.timeline} />
        <Teachers about={about} />
        <CostTable cost={about.cost} />
        <FailureLists run={run} about={about} />
        <Configuration about={about} />
      </div>
      <Notes notes={about.missing} />
    </>
  );
}

function Figures({ about }: { about: RunDocument }): VNode {
  const { run, cost } = about;
  return (
    <section class="figures-card" aria-label="Key figures">
      <Progress problems={run.problems} total={run.total} />
      <dl class="figures">
        <Figure label="Right answers" value={percent(run.accuracy)} note={checked(run)} title={INTERVAL} />
        <Figure label="Mean score" value={score(run.mean_score)} />
        <Figure label="Failed" value={count(run.problems["failed"] ?? 0)} note={inFlight(run)} />
        <Figure label="Tokens" value={short(run.tokens)} />
        <Figure
          label="Run time"
          value={seconds(cost.run_seconds)}
          title="From the first request to the end of the last problem that has ended. Problems overlap, so the mean from admission to end is not the run time divided by their number."
          note={runTime(about)} />
        <Figure label="Created" value={day(run.created_at)} note={`${timeOfDay(run.created_at)}, ${words(run.pipeline)}`} />
      </dl>
    </section>
  );
}

const INTERVAL =
  "The interval (95 %, Wilson's score method) is that of the checked answers; failed problems and undecided answers are not among them.";

/** How many answers are right, with the interval of their share. */
export function checked(run: RunSummary): string {
  const parts = [`${count(run.correct)} of ${count(run.checked)} checked`];
  if (run.accuracy_low !== null && run.accuracy_high !== null) {
    parts.push(`95 % interval (Wilson) ${percent(run.accuracy_low)} to ${percent(run.accuracy_high)}`);
  }
  if (run.undecided > 0) parts.push(`${count(run.undecided)} undecided`);
  return parts.join(", ");
}

function runTime({ run, cost }: RunDocument): string {
  if (cost.run_seconds === null) return run.total === 0 ? "" : "no problem has ended";
  return `a problem takes ${seconds(cost.problem_seconds)} on average; problems overlap`;
}

function inFlight({ problems }: RunSummary): string {
  const active = ["searching", "answering", "verifying"].reduce((sum, state) => sum + (problems[state] ?? 0), 0);
  return active > 0 ? `${count(active)} in flight` : "of all problems";
}

function LengthTables({ about }: { about: RunDocument }): VNode {
  return (
    <div class="side-by-side">
      <HistogramTable noun="Steps" histogram={about.steps} />
      <HistogramTable noun="Tokens" histogram={about.tokens} />
    </div>
  );
}

function Teachers({ about }: { about: RunDocument }): VNode {
  return (
    <Card
      title="Teachers"
      wide
      note="Gain: the mean over the teacher's winning steps. In share and gain, a step that N proposals have in common counts 1/N for each. Shared: texts that another teacher proposed too. Time each: the mean over the teacher's proposals, waiting in the engine included."
    >
      <div class="table-scroll" tabIndex={0}>
        <table class="plain">
          <thead>
            <tr>
              <th>Teacher</th>
              <th>Model</th>
              <th class="number">Proposed</th>
              <th class="number">Invalid</th>
              <th class="number">Shared</th>
              <th class="number">Kept</th>
              <th class="number">Winning</th>
              <th class="number">Share</th>
              <th class="number">Mean score</th>
              <th class="number wraps">Mean winning gain</th>
              <th class="number">Tokens</th>
              <th class="number wraps">Time each</th>
            </tr>
          </thead>
          <tbody>
            {about.teachers.map((teacher, index) => (
              <tr key={teacher.name}>
                <th scope="row">
                  <Mark teacher={index} /> <Name text={teacher.name} most={40} />
                </th>
                <td>
                  <Name text={teacher.model} most={60} />
                </td>
                <td class="number">{count(teacher.proposed)}</td>
                <td class="number">{count(teacher.invalid)}</td>
                <td class="number">{count(teacher.shared)}</td>
                <td class="number">{count(teacher.kept)}</td>
                <td class="number">{count(teacher.winning)}</td>
                <td class="number">{percent(teacher.share)}</td>
                <td class="number">{score(teacher.mean_score)}</td>
                <td class="number">{gain(teacher.gain.mean)}</td>
                <td class="number">{short(teacher.tokens)}</td>
                <td class="number">{seconds(teacher.proposed === 0 ? null : teacher.seconds / teacher.proposed)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function Configuration({ about }: { about: RunDocument }): VNode {
  return (
    <Card title="Configuration" wide>
      <dl class="facts">
        {about.facts.map((fact) => (
          <div key={fact.label}>
            <dt>{fact.label}</dt>
            <dd>
              <Name text={fact.value} most={400} />
            </dd>
          </div>
        ))}
      </dl>
      <details>
        <summary>The whole configuration</summary>
        <div class="code" tabIndex={0}>
          <ModelText text={JSON.stringify(about.config, null, 2)} plain />
        </div>
      </details>
    </Card>
  );
}
