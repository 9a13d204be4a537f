/** Everything about the chosen candidate: its text and figures, its trajectory, and its prompts. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { useData } from "../data/context";
import { useKeys } from "../keys";
import { count, gain, score, words } from "../numbers";
import { Mark } from "../teachers";
import { Name } from "../text/ModelText";
import { Choices, Empty } from "../ui/parts";
import { Prompt } from "./Prompt";
import { invalidWord } from "./layout";
import { StepText } from "./StepText";
import { Trajectory } from "./Trajectory";
import type { Beam } from "./useBeam";

type Tab = "step" | "trajectory" | "prompt";

export function Detail({ beam }: { beam: Beam }): VNode {
  const { site } = useData();
  const [tab, setTab] = useState<Tab>("step");
  const [isPlain, setPlain] = useState(false);
  useKeys({
    "1": () => setTab("step"),
    "2": () => setTab("trajectory"),
    "3": () => (site.has_prompts ? setTab("prompt") : undefined),
    m: () => setPlain(!isPlain),
  });
  const { candidate, grid } = beam;
  if (candidate === null) {
    return (
      <aside class="detail" aria-label="Candidate">
        <Empty>{grid.columns.length === 0 ? "The search has not begun." : "There is no candidate."}</Empty>
      </aside>
    );
  }
  const { candidates, teachers } = grid.problem;
  const teacher = candidates.teacher[candidate] ?? 0;
  const tabs = [
    { value: "step", label: "Step" },
    { value: "trajectory", label: "Trajectory" },
    ...(site.has_prompts ? [{ value: "prompt", label: "Prompt" } as const] : []),
  ] as const;
  return (
    <aside class="detail" aria-label="Candidate">
      <header class="detail-head">
        <h2>
          <Mark teacher={teacher} /> <Name text={teachers[teacher] ?? ""} most={40} />
        </h2>
        <span class="detail-place">step {candidates.step[candidate]}</span>
        <Fate beam={beam} candidate={candidate} />
      </header>
      <Facts beam={beam} candidate={candidate} />
      <div class="detail-tabs">
        <Choices label="What is shown" choices={tabs} value={tab} onChange={setTab} />
        {tab !== "prompt" && (
          <button type="button" class="quiet" aria-pressed={isPlain} onClick={() => setPlain(!isPlain)}>
            Source
          </button>
        )}
      </div>
      <div class="detail-body" tabIndex={0} role="region" aria-label="Text" key={`${tab} ${candidate}`}>
        {tab === "step" && <StepText grid={grid} candidate={candidate} isPlain={isPlain} />}
        {tab === "trajectory" && <Trajectory beam={beam} candidate={candidate} isPlain={isPlain} />}
        {tab === "prompt" && <Prompt problem={grid.problem} candidate={candidate} />}
        {tab === "step" && <MoreFacts beam={beam} candidate={candidate} />}
      </div>
    </aside>
  );
}

function Fate({ beam, candidate }: { beam: Beam; candidate: number }): VNode {
  const { candidates } = beam.grid.problem;
  if (beam.grid.winning.has(candidate)) return <span class="fate winning">winning path</span>;
  const kept = candidates.kept[candidate] ?? null;
  if (kept === true) return <span class="fate kept">kept</span>;
  if (candidates.state[candidate] === "invalid") return <span class="fate lost">{invalidWord(beam.grid.problem, candidate)}</span>;
  if (candidate === beam.grid.nearest) return <span class="fate lost">nearest loser</span>;
  return kept === null ? (
    <span class="fate">{words(candidates.state[candidate] ?? "")}</span>
  ) : (
    <span class="fate lost">lost</span>
  );
}

function Facts({ beam, candidate }: { beam: Beam; candidate: number }): VNode {
  const { candidates } = beam.grid.problem;
  const reason = candidates.reason[candidate] ?? "";
  const behind = candidates.behind[candidate] ?? null;
  const judgment = candidates.judgment[candidate] ?? null;
  const tie = candidates.tie[candidate] ?? "";
  return (
    <>
      <dl class="detail-facts">
        <Fact label="Score" value={score(candidates.score[candidate])} />
        <Fact label="Gain" value={gain(candidates.gain[candidate])} />
        <Fact label="Rank" value={candidates.rank[candidate] ?? "–"} />
        {judgment !== null && <Fact label="Judgment" value={score(judgment)} />}
        <Fact label="Tokens" value={count(candidates.tokens[candidate])} />
      </dl>
      {(reason !== "" || behind !== null) && (
        <p class="why">
          <strong>Why it lost:</strong> {reason === "" ? "its rank" : <Name text={reason} />}
          {behind !== null && behind > 0 && `, ${score(behind)} below the lowest score that was kept`}
          {tie !== "" && (
            <>
              ; <Name text={tie} most={400} />
            </>
          )}
        </p>
      )}
      {reason === "" && tie !== "" && (
        <p class="why">
          <strong>Why it ranks higher:</strong> <Name text={tie} most={400} />
        </p>
      )}
    </>
  );
}

function Fact({ label, value }: { label: string; value: string | number }): VNode {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function MoreFacts({ beam, candidate }: { beam: Beam; candidate: number }): VNode {
  const { grid, choose } = beam;
  const { candidates } = grid.problem;
  const original = candidates.duplicate_of[candidate] ?? null;
  const parent = candidates.parent[candidate] ?? null;
  const children = grid.children(candidate);
  const finish = candidates.finish[candidate] ?? null;
  const link = (index: number): VNode => (
    <button key={index} type="button" class="candidate-link" onClick={() => choose(index)}>
      <Mark teacher={candidates.teacher[index] ?? 0} /> {score(candidates.score[index])}
    </button>
  );
  return (
    <dl class="more-facts">
      {finish !== null && <Fact label="Trajectory finished by" value={words(finish)} />}
      {original !== null && (
        <div>
          <dt>Repeats</dt>
          <dd>{link(original)}</dd>
        </div>
      )}
      {parent !== null && (
        <div>
          <dt>Extends</dt>
          <dd>{link(parent)}</dd>
        </div>
      )}
      {children.length > 0 && (
        <div>
          <dt>Extended by</dt>
          <dd>{children.slice(0, 24).map(link)}</dd>
        </div>
      )}
      <Fact label="Finish reason" value={words(candidates.ended[candidate] ?? "–")} />
      <Fact label="Token limit" value={count(candidates.max_tokens[candidate])} />
      <Fact label="Slot, sample, round" value={`${candidates.slot[candidate]}, ${candidates.sample[candidate]}, ${candidates.round[candidate]}`} />
      <div>
        <dt>Seed</dt>
        <dd class="mono">{candidates.seed[candidate]}</dd>
      </div>
    </dl>
  );
}
