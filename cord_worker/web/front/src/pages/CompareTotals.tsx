/** The totals of a comparison: means with their intervals, and how often each run was right. */
import type { VNode } from "preact";
import type { ComparedRun, ComparisonDocument, Interval } from "../data/documents";
import { UNKNOWN, count, counted, percent, score, short } from "../numbers";
import { Name } from "../text/ModelText";
import { Card } from "../ui/parts";

type Format = (value: number) => string;

const asDifference =
  (format: Format): Format =>
  (value) =>
    format(Math.abs(value)) === format(0) ? `±${format(0)}` : `${value < 0 ? "−" : "+"}${format(Math.abs(value))}`;

const METHODS: Readonly<Record<string, string>> = {
  bootstrap: "paired bootstrap over the problems",
  normal: "the normal distribution",
};

export function Totals({ document }: { document: ComparisonDocument }): VNode {
  const { a, b } = document;
  const rows: readonly [string, Format, (run: ComparedRun) => Interval | null, Interval | null][] = [
    ["Right answers", percent, (run) => run.accuracy, b.accuracy_difference],
    ["Score", score, (run) => run.score, b.score_difference],
    ["Tokens per problem", short, (run) => run.tokens, null],
  ];
  return (
    <Card title="Totals" note={`Over ${counted(document.shared, "problem")} that both runs finished. A failed problem counts as wrong, with a score of 0. 95 % intervals: ${METHODS[document.method] ?? document.method}.`}>
      <div class="table-scroll" tabIndex={0}>
        <table class="plain totals">
          <thead>
            <tr>
              <th>
                <span class="hidden">Figure</span>
              </th>
              <th class="number">
                A <Name text={a.run.name} most={30} />
              </th>
              <th class="number">
                B <Name text={b.run.name} most={30} />
              </th>
              <th class="number">B − A</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(([label, format, of, difference]) => (
              <tr key={label}>
                <th scope="row">{label}</th>
                <td class="number">{withInterval(of(a), format)}</td>
                <td class="number">{withInterval(of(b), format)}</td>
                <td class="number">{withInterval(difference, asDifference(format))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function withInterval(interval: Interval | null, format: Format): VNode {
  if (interval === null) return <>{UNKNOWN}</>;
  return (
    <>
      {format(interval.mean)}
      <span class="sub">
        {format(interval.low)} to {format(interval.high)}
      </span>
    </>
  );
}

const OUTCOMES = [
  ["both", "Both right"],
  ["only_a", "Only A right"],
  ["only_b", "Only B right"],
  ["neither", "Both wrong"],
] as const;

export function Outcomes(props: {
  document: ComparisonDocument;
  outcome: string;
  onOutcome: (outcome: string) => void;
}): VNode {
  const { outcomes } = props.document;
  const most = Math.max(1, ...OUTCOMES.map(([name]) => outcomes[name] ?? 0));
  return (
    <Card title="Which run was right" note="Choose an outcome to see its problems.">
      <div class="outcomes" role="group" aria-label="Outcome">
        {OUTCOMES.map(([name, label]) => (
          <button
            key={name}
            type="button"
            class={`outcome outcome-${name}`}
            aria-pressed={props.outcome === name}
            onClick={() => props.onOutcome(props.outcome === name ? "" : name)}
          >
            <span class="outcome-label">{label}</span>
            <span class="outcome-track" aria-hidden="true">
              <span style={{ width: `${((outcomes[name] ?? 0) / most) * 100}%` }} />
            </span>
            <span class="outcome-count">{count(outcomes[name] ?? 0)}</span>
          </button>
        ))}
      </div>
      {(outcomes["undecided"] ?? 0) > 0 && <p class="sub">{count(outcomes["undecided"])} undecided in at least one of the runs</p>}
    </Card>
  );
}
