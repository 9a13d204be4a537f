/** Two runs, problem by problem. */
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import { useData, useDocument } from "../data/context";
import type { ComparisonDocument, ComparisonTable, RunList } from "../data/documents";
import { nameOf, paths } from "../data/paths";
import { type Order, contains, useRows } from "../data/rows";
import { correctness, counted, gain, mean, score, short } from "../numbers";
import { address, go } from "../route";
import { Id, Name } from "../text/ModelText";
import { Correct, Empty, Waiting } from "../ui/parts";
import { SearchField } from "../ui/SearchField";
import { type Column, VirtualTable } from "../ui/VirtualTable";
import { Outcomes, Totals } from "./CompareTotals";

function columns(a: string, b: string): readonly Column<ComparisonTable>[] {
  const sorts = { sorts: true, descends: true, isNumber: true };
  return [
    { name: "id", label: "Id", cell: (row) => <Id text={row.id} />, sorts: true, isLink: true },
    { name: "question", label: "Question", cell: (row) => <Name text={row.question} /> },
    {
      name: "correct_a",
      label: "A",
      cell: (row) => (
        <a href={address.problem(a, row.position_a)}>
          <Correct value={row.correct_a} />
        </a>
      ),
    },
    {
      name: "correct_b",
      label: "B",
      cell: (row) => (
        <a href={address.problem(b, row.position_b)}>
          <Correct value={row.correct_b} />
        </a>
      ),
    },
    { name: "score_a", label: "Score A", cell: (row) => score(row.score_a), ...sorts },
    { name: "score_b", label: "Score B", cell: (row) => score(row.score_b), ...sorts },
    { name: "difference", label: "B − A", cell: (row) => <Difference value={row.difference} />, ...sorts },
    { name: "steps_a", label: "Steps A", cell: (row) => mean(row.steps_a), ...sorts },
    { name: "steps_b", label: "Steps B", cell: (row) => mean(row.steps_b), ...sorts },
    { name: "tokens_a", label: "Tokens A", cell: (row) => short(row.tokens_a), ...sorts },
    { name: "tokens_b", label: "Tokens B", cell: (row) => short(row.tokens_b), ...sorts },
  ];
}

const DEFAULT_SORT = "position_a";

export function Compare({ a, b, query }: { a: string | null; b: string | null; query: URLSearchParams }): VNode {
  const { site } = useData();
  const { document: list } = useDocument<RunList>(paths.runs, () => true);
  if (!site.has_comparisons) {
    return <Empty>Runs can be compared only in the server that cordctl view starts.</Empty>;
  }
  return (
    <>
      <div class="page-head">
        <h1>Compare</h1>
        <Choice label="A" value={a} other={b} runs={list} onChoose={(run) => go(address.compare(run, b ?? run))} />
        <Choice label="B" value={b} other={a} runs={list} onChoose={(run) => go(address.compare(a ?? run, run))} />
      </div>
      {a === null || b === null || a === b ? (
        <Empty>Choose two runs. They are compared on the problems that both have finished.</Empty>
      ) : (
        <Compared key={`${a} ${b}`} a={a} b={b} query={query} />
      )}
    </>
  );
}

function Choice(props: {
  label: string;
  value: string | null;
  other: string | null;
  runs: RunList | null;
  onChoose: (run: string) => void;
}): VNode {
  const runs = props.runs?.runs ?? [];
  return (
    <label class="run-choice">
      <span class="run-letter">{props.label}</span>
      <select value={props.value ?? ""} onChange={(event) => props.onChoose(event.currentTarget.value)}>
        {props.value === null && <option value="">choose a run</option>}
        {props.value !== null && !runs.some((run) => run.path === props.value) && (
          <option value={props.value}>{nameOf(props.value)}</option>
        )}
        {runs.map((run) => (
          <option key={run.path} value={run.path}>
            {run.name}
          </option>
        ))}
      </select>
    </label>
  );
}

function Compared({ a, b, query }: { a: string; b: string; query: URLSearchParams }): VNode {
  const outcome = query.get("outcome") ?? "";
  const q = query.get("q") ?? "";
  const list = useMemo(() => columns(a, b), [a, b]);
  const sort = query.get("sort") ?? DEFAULT_SORT;
  const isKnown = list.some((column) => column.sorts === true && column.name === sort);
  const order: Order = { sort: isKnown ? sort : DEFAULT_SORT, descending: query.get("order") === "desc" };
  const filters = useMemo(
    () => Object.fromEntries(Object.entries({ outcome, q }).filter(([, value]) => value !== "")),
    [outcome, q],
  );
  const rows = useRows<ComparisonDocument, ComparisonTable>({
    path: paths.comparison(a, b),
    filters,
    order,
    passes: filterOf(outcome, q),
    isFinal: false,
  });
  const { document } = rows;
  if (document === null) return <Waiting error={rows.error} isMissing={rows.isMissing} />;
  const change = (changes: Record<string, string>): void =>
    go(
      address.compare(a, b, {
        outcome,
        q,
        sort: order.sort === DEFAULT_SORT ? "" : order.sort,
        order: order.descending ? "desc" : "",
        ...changes,
      }),
      { replace: true },
    );
  return (
    <>
      <div class="cards compare-cards">
        <Totals document={document} />
        <Outcomes document={document} outcome={outcome} onOutcome={(next) => change({ outcome: next })} />
      </div>
      {document.other_content > 0 && (
        <ul class="notes">
          <li>
            Left out: {counted(document.other_content, "problem")} with a different question, passage or answer in A and B.
          </li>
        </ul>
      )}
      <div class="filters">
        <SearchField label="Search ids, questions" value={q} onSearch={(text) => change({ q: text })} />
        <span class="hint" role="status">
          {counted(rows.matching, "problem")}
        </span>
      </div>
      {rows.matching === 0 ? (
        <Empty>No problem matches.</Empty>
      ) : (
        <VirtualTable
          label="Problems of both runs"
          kind="comparison"
          rows={rows}
          columns={list}
          order={order}
          onOrder={(next) => change({ sort: next.sort, order: next.descending ? "desc" : "" })}
          link={(row) => address.problem(a, row.position_a)}
        />
      )}
    </>
  );
}

/** A difference as a bar to the left or right of zero. */
function Difference({ value }: { value: number | null }): VNode {
  if (value === null) return <>–</>;
  const width = `${Math.min(Math.abs(value), 1) * 50}%`;
  return (
    <span class="difference">
      <span class="difference-track" aria-hidden="true">
        <span class={value < 0 ? "down" : "up"} style={value < 0 ? { right: "50%", width } : { left: "50%", width }} />
      </span>
      {gain(value)}
    </span>
  );
}

/** The outcome of a problem, by the correctness of A and B. */
const OUTCOME: Readonly<Record<string, string>> = {
  "right right": "both",
  "right wrong": "only_a",
  "wrong right": "only_b",
  "wrong wrong": "neither",
};

function filterOf(outcome: string, q: string): (table: ComparisonTable, index: number) => boolean {
  const text = q.toLowerCase();
  return ({ correct_a, correct_b, id, question }, index) => {
    const pair = `${correctness(correct_a[index] ?? null)} ${correctness(correct_b[index] ?? null)}`;
    return (
      (outcome === "" || OUTCOME[pair] === outcome) &&
      (text === "" || contains(id[index], text) || contains(question[index], text))
    );
  };
}
