/** The list of a run's problems, which can be searched, filtered and sorted. */
import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import { useData, useDocument } from "../data/context";
import type { ProblemList, ProblemTable, RunDocument } from "../data/documents";
import { paths } from "../data/paths";
import { type Order, type RowOf, contains, useRows } from "../data/rows";
import { correctness, count, counted, gain, mean, seconds, short } from "../numbers";
import { address, go } from "../route";
import { Id, Name } from "../text/ModelText";
import { Choices, Correct, Empty, State, Waiting } from "../ui/parts";
import { ScoreBar } from "../ui/ScoreBar";
import { SearchField } from "../ui/SearchField";
import { type Column, VirtualTable } from "../ui/VirtualTable";
import { RunTabs } from "./RunTabs";
import { isRunFinal } from "./Run";

const LEAD =
  "How narrowly the problem was won: the least difference, over the winner's steps, between the step's score and the best one that lost. " +
  "Below 0, something else than the exact score decided, such as a tie at a score resolution. None if nothing lost by its rank.";

const COLUMNS: readonly Column<ProblemTable>[] = [
  { name: "position", label: "Position", cell: (row) => count(row.position), sorts: true, isNumber: true },
  { name: "id", label: "Id", cell: (row) => <IdCell row={row} />, sorts: true, isLink: true },
  {
    name: "correct",
    label: "Outcome",
    cell: (row) => (row.state === "done" ? <Correct value={row.correct} /> : <State state={row.state} />),
    sorts: true,
    descends: true,
  },
  { name: "question", label: "Question", cell: (row) => <Name text={row.question} /> },
  { name: "answer", label: "Known answer", cell: (row) => <Name text={row.answer} most={40} /> },
  {
    name: "score",
    label: "Score",
    title: "Of the winner: how well it predicts the known answer",
    cell: (row) => <ScoreBar value={row.score} />,
    sorts: true,
    descends: true,
    isNumber: true,
  },
  {
    name: "gain",
    label: "Gain",
    title: "The winner's score minus the base score",
    cell: (row) => gain(row.gain),
    sorts: true,
    descends: true,
    isNumber: true,
  },
  { name: "lead", label: "Lead", title: LEAD, cell: (row) => gain(row.lead), sorts: true, isNumber: true },
  { name: "steps", label: "Steps", title: "Steps of the winner", cell: (row) => mean(row.steps), sorts: true, descends: true, isNumber: true },
  {
    name: "result_tokens",
    label: "Winner tokens",
    title: "Tokens of the winner: its thinking and final answer",
    cell: (row) => short(row.result_tokens),
    sorts: true,
    descends: true,
    isNumber: true,
  },
  {
    name: "tokens",
    label: "Search tokens",
    title: "Tokens that all teachers generated in the whole search of the problem",
    cell: (row) => short(row.tokens),
    sorts: true,
    descends: true,
    isNumber: true,
  },
  {
    name: "seconds",
    label: "Time",
    title: "From the problem's admission to its end",
    cell: (row) => seconds(row.seconds),
    sorts: true,
    descends: true,
    isNumber: true,
  },
  {
    name: "loser",
    label: "Nearest loser",
    title: "The loser that the lead is about: its step, its teacher and its text. “=” before the text: the winning step has the same.",
    cell: (row) => <LoserCell row={row} />,
  },
];

/** Which loser came nearest, in one line. */
function LoserCell({ row }: { row: RowOf<ProblemTable> }): VNode | null {
  if (row.loser_step === null) return null;
  return (
    <>
      <span class="soft">
        {row.loser_step} <Name text={row.loser_teacher ?? ""} most={24} />
      </span>{" "}
      {row.loser_repeats === true && <span title="The text of the winning step">= </span>}
      <Name text={row.loser_text ?? ""} />
    </>
  );
}

/** The id of a problem. A report marks the few problems whose whole search it has. */
function IdCell({ row }: { row: RowOf<ProblemTable> }): VNode {
  const { whole_problems: whole } = useData().site;
  return (
    <>
      <Id text={row.id} />
      {whole?.includes(row.position) === true && <span class="tag">search</span>}
    </>
  );
}

const SORTS = new Set(COLUMNS.filter((column) => column.sorts === true).map((column) => column.name));

const STATES = [
  { value: "", label: "All" },
  { value: "done", label: "Done" },
  { value: "failed", label: "Failed" },
  { value: "searching,answering,verifying", label: "In flight" },
  { value: "queued", label: "Queued" },
] as const;
const OUTCOMES = [
  { value: "", label: "Any outcome" },
  { value: "right", label: "Right" },
  { value: "wrong", label: "Wrong" },
  { value: "undecided", label: "Undecided" },
] as const;

const LOSERS = [
  { value: "", label: "Any loser" },
  { value: "other_text", label: "Other text" },
] as const;

export function Problems({ run, query }: { run: string; query: URLSearchParams }): VNode {
  const { document: about } = useDocument<RunDocument>(paths.run(run), isRunFinal);
  const q = query.get("q") ?? "";
  const state = query.get("state") ?? "";
  const correct = query.get("correct") ?? "";
  const loser = query.get("loser") ?? "";
  const sort = query.get("sort") ?? "position";
  const order: Order = { sort: SORTS.has(sort) ? sort : "position", descending: query.get("order") === "desc" };
  const filters = useMemo(() => withoutEmpty({ q, state, correct, loser }), [q, state, correct, loser]);
  const rows = useRows<ProblemList, ProblemTable>({
    path: paths.problems(run),
    filters,
    order,
    passes: filterOf(q, state, correct, loser),
    isFinal: about !== null && isRunFinal(about),
  });
  const change = (changes: Record<string, string>): void => {
    const next = { q, state, correct, loser, sort: order.sort, order: order.descending ? "desc" : "", ...changes };
    go(address.problems(run, { ...next, sort: next.sort === "position" ? "" : next.sort }), { replace: true });
  };
  return (
    <>
      <RunTabs run={run} about={about?.run ?? null} page="problems" />
      <div class="filters">
        <SearchField label="Search ids, questions, answers" value={q} onSearch={(text) => change({ q: text })} />
        <Choices label="State" choices={STATES} value={state as (typeof STATES)[number]["value"]} onChange={(value) => change({ state: value })} />
        <Choices
          label="Outcome"
          choices={OUTCOMES}
          value={correct as (typeof OUTCOMES)[number]["value"]}
          onChange={(value) => change({ correct: value })}
        />
        <Choices
          label="Text of the nearest loser: any, or another one than that of the winning step"
          choices={LOSERS}
          value={loser as (typeof LOSERS)[number]["value"]}
          onChange={(value) => change({ loser: value })}
        />
        <span class="hint" role="status">
          {rows.document !== null && matchingText(rows.matching, rows.document.total)}
        </span>
      </div>
      {rows.document === null ? (
        <Waiting error={rows.error} isMissing={rows.isMissing} />
      ) : rows.matching === 0 ? (
        <Empty>No problem matches.</Empty>
      ) : (
        <VirtualTable
          label="Problems"
          kind="problems"
          rows={rows}
          columns={COLUMNS}
          order={order}
          onOrder={(next) => change({ sort: next.sort, order: next.descending ? "desc" : "" })}
          link={(row) => address.problem(run, row.position)}
        />
      )}
    </>
  );
}

function matchingText(number: number, total: number): string {
  return number === total ? counted(total, "problem") : `${count(number)} of ${counted(total, "problem")}`;
}

function withoutEmpty(filters: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== ""));
}

function filterOf(q: string, state: string, correct: string, loser: string): (table: ProblemTable, index: number) => boolean {
  const text = q.toLowerCase();
  const states = state === "" ? null : new Set(state.split(","));
  return (table, index) =>
    (states === null || states.has(table.state[index] ?? "")) &&
    (correct === "" || (table.state[index] === "done" && correctness(table.correct[index] ?? null) === correct)) &&
    (loser === "" || table.loser_repeats[index] === false) &&
    (text === "" || [table.id, table.question, table.answer].some((column) => contains(column[index], text)));
}
