/** All runs, newest first. The user can choose two of them to compare. */
import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import { useData, useDocument } from "../data/context";
import type { RunList, RunSummary } from "../data/documents";
import { paths } from "../data/paths";
import { useKeys } from "../keys";
import { moment, percent, score, short } from "../numbers";
import { address } from "../route";
import { Name } from "../text/ModelText";
import { Empty, PauseReason, State, Waiting } from "../ui/parts";
import { Progress } from "../ui/Progress";
import { checked } from "./Run";

export function Runs(): VNode {
  const { site } = useData();
  const { document: list, error, isMissing } = useDocument<RunList>(paths.runs, () => false);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const table = useRef<HTMLTableElement>(null);
  const moveFocus = (by: number): void => {
    const links = [...(table.current?.querySelectorAll<HTMLElement>("a.row-link") ?? [])];
    const now = links.indexOf(document.activeElement as HTMLElement);
    links[Math.min(Math.max(now + by, 0), links.length - 1)]?.focus();
  };
  useKeys({ j: () => moveFocus(1), k: () => moveFocus(-1) });

  if (list === null) return <Waiting error={error} isMissing={isMissing} />;
  const choose = (path: string, isChosen: boolean): void =>
    setChosen(isChosen ? [...chosen, path].slice(-2) : chosen.filter((one) => one !== path));
  // The list has the newest run first; the older one of the two becomes run A.
  const [first, second] = list.runs.map((run) => run.path).filter((path) => chosen.includes(path)).reverse();
  return (
    <>
      <div class="page-head">
        <h1>Runs</h1>
        {site.has_comparisons && list.runs.length > 1 && (
          <div class="page-actions">
            {first !== undefined && second !== undefined ? (
              <a class="button" href={address.compare(first, second)}>
                Compare the two
              </a>
            ) : (
              <span class="hint">Mark two runs to compare them</span>
            )}
          </div>
        )}
      </div>
      {list.runs.length === 0 ? (
        <Empty>There is no run yet. Enqueue one with: cordctl run problems.jsonl</Empty>
      ) : (
        <div class="table-scroll card flush" tabIndex={0}>
          <table class="plain runs" ref={table}>
            <thead>
              <tr>
                {site.has_comparisons && <th class="narrow"><span class="hidden">Compare</span></th>}
                <th>Run</th>
                <th>State</th>
                <th class="progress-column">Problems</th>
                <th class="number">Right</th>
                <th class="number">Mean score</th>
                <th class="number">Tokens</th>
                <th>Pipeline</th>
                <th>Created</th>
              </tr>
            </thead>
            <tbody>
              {list.runs.map((run) => (
                <Row key={run.path} run={run} isChosen={chosen.includes(run.path)} onChoose={site.has_comparisons ? choose : null} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function Row(props: {
  run: RunSummary;
  isChosen: boolean;
  onChoose: ((path: string, isChosen: boolean) => void) | null;
}): VNode {
  const { run, onChoose } = props;
  return (
    <tr>
      {onChoose !== null && (
        <td class="narrow">
          <input
            type="checkbox"
            aria-label={`Compare ${run.name}`}
            checked={props.isChosen}
            onChange={(event) => onChoose(run.path, event.currentTarget.checked)}
          />
        </td>
      )}
      <th scope="row">
        <a class="row-link" href={address.run(run.path)}>
          <Name text={run.name} most={60} />
        </a>
        {run.trimmed_from !== null && (
          <span class="sub">
            trimmed from <Name text={run.trimmed_from} most={40} />
          </span>
        )}
      </th>
      <td>
        <State state={run.state} />
        <PauseReason reason={run.pause_reason} />
      </td>
      <td class="progress-column">
        <Progress problems={run.problems} total={run.total} />
      </td>
      <td class="number" title={checked(run)}>
        {percent(run.accuracy)}
      </td>
      <td class="number">{score(run.mean_score)}</td>
      <td class="number">{short(run.tokens)}</td>
      <td>{run.pipeline}</td>
      <td class="soft">{moment(run.created_at)}</td>
    </tr>
  );
}
