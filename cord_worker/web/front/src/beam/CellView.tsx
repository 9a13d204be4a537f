/** One cell of the beam grid. */
import type { VNode } from "preact";
import { counted, score, words } from "../numbers";
import { Mark, teacherClass } from "../teachers";
import { visible } from "../text/visible";
import { type Cell, type Grid, type Place, invalidWord } from "./layout";

export function cellId({ column, row }: Place): string {
  return `cell-${column}-${row}`;
}

export interface CellProps {
  readonly grid: Grid;
  readonly open: ReadonlySet<number>;
  readonly place: Place;
  readonly left: number;
  readonly isActive: boolean;
  readonly isOnPath: boolean;
  readonly onActivate: (place: Place) => void;
}

export function CellView(props: CellProps): VNode {
  const { grid, place, isActive } = props;
  const cell = grid.cell(place, props.open);
  return (
    <div
      id={cellId(place)}
      class={classes(grid, cell, props)}
      role="gridcell"
      aria-colindex={place.column + 2}
      aria-selected={isActive}
      {...(cell.kind === "fold" ? { "aria-expanded": cell.isOpen } : {})}
      style={{ transform: `translateX(${props.left}px)` }}
      {...(cell.kind === "none" ? {} : { onClick: () => props.onActivate(place) })}
    >
      <Content grid={grid} cell={cell} />
    </div>
  );
}

function Content({ grid, cell }: { grid: Grid; cell: Cell }): VNode {
  if (cell.kind === "none") return <span class="hidden">empty</span>;
  if (cell.kind === "fold") {
    return (
      <span class="fold-text">
        {cell.isOpen ? "fold" : `+${cell.number}`}
        <span class="hidden">
          {" "}
          {counted(cell.number, "candidate")} not kept{cell.hasNearest && ", the nearest loser among them"}
        </span>
      </span>
    );
  }
  const { candidates, teachers } = grid.problem;
  const index = cell.candidate;
  const teacher = candidates.teacher[index] ?? 0;
  const value = candidates.score[index] ?? null;
  const gain = candidates.gain[index] ?? null;
  return (
    <>
      <span class="cell-top">
        <Mark teacher={teacher} />
        <span class="cell-score">{value === null ? shortState(grid, index) : score(value)}</span>
        {gain !== null && <span class={gain < 0 ? "cell-gain down" : "cell-gain"}>{shortGain(gain)}</span>}
      </span>
      <span class="cell-name">
        {index === grid.nearest && <NearestMark />}
        {visible((teachers[teacher] ?? "").slice(0, 40))}
      </span>
      {value !== null && (
        <span class="cell-bar" aria-hidden="true">
          <span class={teacherClass(teacher)} style={{ transform: `scaleX(${value})` }} />
        </span>
      )}
      <span class="hidden">{spokenState(grid, cell)}</span>
    </>
  );
}

function shortGain(value: number): string {
  const text = Math.abs(value).toFixed(2);
  if (text === "0.00") return "±0";
  return `${value < 0 ? "−" : "+"}${text.replace("0.", ".")}`;
}

function shortState({ problem }: Grid, index: number): string {
  const state = problem.candidates.state[index];
  return state === "invalid" ? invalidWord(problem, index) : state === "unscored" ? "–" : "…";
}

/** Marks the nearest loser; the hidden text of its cell says the same. */
export function NearestMark(): VNode {
  return (
    <span class="nearest-mark" aria-hidden="true">
      ◂{" "}
    </span>
  );
}

function classes(grid: Grid, cell: Cell, { isActive, isOnPath }: CellProps): string {
  const names = ["cell", `cell-${cell.kind}`];
  if (isActive) names.push("active");
  if (cell.kind === "fold" && cell.hasNearest && !cell.isOpen) names.push("has-nearest");
  if (cell.kind === "slot" || cell.kind === "lost") {
    if (grid.winning.has(cell.candidate)) names.push("winning");
    if (isOnPath) names.push("on-path");
    if (cell.candidate === grid.nearest) names.push("nearest");
    if (grid.problem.candidates.state[cell.candidate] === "invalid") names.push(invalidWord(grid.problem, cell.candidate));
  }
  if (cell.kind === "slot" && cell.beam.isCarried) names.push("carried");
  if (cell.kind === "slot" && cell.beam.finish !== null) names.push("ended");
  return names.join(" ");
}

/** What the look of the cell shows, in words for a screen reader. (A screen reader names the row and column itself.) */
function spokenState(grid: Grid, cell: Cell): string {
  if (cell.kind !== "slot") return cell.kind === "lost" && cell.candidate === grid.nearest ? "not kept, the nearest loser" : "not kept";
  const parts = [];
  if (grid.winning.has(cell.candidate)) parts.push("on the winning path");
  if (cell.beam.isCarried) parts.push("kept its slot");
  if (cell.beam.finish !== null) parts.push(`finished: ${words(cell.beam.finish)}`);
  return parts.join(", ");
}
