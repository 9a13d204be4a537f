/**
 * Where the candidates of a problem are in the beam grid. A column is a step. Its first rows are the slots of the beam
 * by rank. The next row, the fold row, says how many candidates lost. If the column is open, the losers follow.
 */
import type { GridColumn, ProblemDocument } from "../data/documents";

export interface Place {
  readonly column: number;
  readonly row: number;
}

/** A slot of the beam; see BeamCell of documents.py. */
export interface BeamCell {
  readonly rank: number;
  readonly candidate: number;
  readonly isCarried: boolean;
  readonly finish: string | null;
}

export type Cell =
  | { readonly kind: "slot"; readonly candidate: number; readonly beam: BeamCell }
  | { readonly kind: "lost"; readonly candidate: number }
  | { readonly kind: "fold"; readonly number: number; readonly isOpen: boolean; readonly hasNearest: boolean }
  | { readonly kind: "none" };

const NONE: Cell = { kind: "none" };

interface Column {
  readonly step: number;
  readonly beam: readonly BeamCell[];
  readonly lost: readonly number[];
}

export class Grid {
  readonly columns: readonly Column[];
  readonly slots: number;
  readonly winning: ReadonlySet<number>;
  /** The loser that came nearest to a step of the winner; null if it is not known or not in the document. */
  readonly nearest: number | null;
  private readonly homes = new Map<number, Place>();
  private readonly byRank: readonly ReadonlyMap<number, BeamCell>[];

  constructor(readonly problem: ProblemDocument) {
    this.columns = columnsOf(problem);
    this.slots = Math.max(1, ...this.columns.flatMap(({ beam }) => beam.map(({ rank }) => rank + 1)));
    this.winning = new Set(problem.path);
    this.nearest = problem.nearest?.candidate ?? null;
    this.byRank = this.columns.map(({ beam }) => new Map(beam.map((cell) => [cell.rank, cell])));
    this.columns.forEach(({ beam, lost }, column) => {
      for (const cell of beam) {
        if (!cell.isCarried) this.homes.set(cell.candidate, { column, row: cell.rank });
      }
      lost.forEach((candidate, index) => {
        if (!this.homes.has(candidate)) this.homes.set(candidate, { column, row: this.foldRow + 1 + index });
      });
    });
  }

  /** The row that says how many candidates lost. */
  get foldRow(): number {
    return this.slots;
  }

  /** The number of rows while these columns are open. */
  rowCount(open: ReadonlySet<number>): number {
    let lost = 0;
    for (const column of open) lost = Math.max(lost, this.columns[column]?.lost.length ?? 0);
    return this.foldRow + 1 + lost;
  }

  cell({ column, row }: Place, open: ReadonlySet<number>): Cell {
    const { lost } = this.columns[column] ?? {};
    if (lost === undefined) return NONE;
    if (row < this.slots) {
      const beam = this.byRank[column]?.get(row);
      return beam === undefined ? NONE : { kind: "slot", candidate: beam.candidate, beam };
    }
    const isOpen = open.has(column);
    if (row === this.foldRow) {
      const hasNearest = this.nearest !== null && lost.includes(this.nearest);
      return lost.length === 0 ? NONE : { kind: "fold", number: lost.length, isOpen, hasNearest };
    }
    const candidate = isOpen ? lost[row - this.foldRow - 1] : undefined;
    return candidate === undefined ? NONE : { kind: "lost", candidate };
  }

  /** The candidate's place in the column of its own step; undefined if it is in no column. */
  home(candidate: number): Place | undefined {
    return this.homes.get(candidate);
  }

  /** The candidates from the root to this one. */
  path(candidate: number): number[] {
    const path: number[] = [];
    const { parent } = this.problem.candidates;
    for (let at: number | null = candidate; at !== null && path.length <= parent.length; at = parent[at] ?? null) path.push(at);
    return path.reverse();
  }

  /** The candidates that extend this one, best first. */
  children(candidate: number): number[] {
    const { parent, rank } = this.problem.candidates;
    const found: number[] = [];
    for (let index = candidate + 1; index < parent.length; index += 1) {
      if (parent[index] === candidate) found.push(index);
    }
    return found.sort((a, b) => (rank[a] ?? Infinity) - (rank[b] ?? Infinity) || a - b);
  }

  /** The row of the trajectory that a cell continues, in the previous column; null if it is not in the beam there. */
  rowBefore(column: number, cell: Cell): number | null {
    if (column === 0 || (cell.kind !== "slot" && cell.kind !== "lost")) return null;
    const isCarried = cell.kind === "slot" && cell.beam.isCarried;
    const from = isCarried ? cell.candidate : this.problem.candidates.parent[cell.candidate];
    const beam = this.columns[column - 1]?.beam.find(({ candidate }) => candidate === from);
    return beam?.rank ?? null;
  }
}

/** The word for an invalid candidate: a duplicate is not called invalid, because no count of invalid ones has it. */
export function invalidWord(problem: ProblemDocument, candidate: number): string {
  return (problem.candidates.duplicate_of[candidate] ?? null) === null ? "invalid" : "duplicate";
}

/**
 * The columns of the grid. Before the decision on a step, its candidates are in neither list of the document's column;
 * here they are among the lost.
 */
function columnsOf(problem: ProblemDocument): Column[] {
  const byStep = new Map<number, number[]>();
  problem.candidates.step.forEach((step, index) => {
    const list = byStep.get(step);
    if (list === undefined) byStep.set(step, [index]);
    else list.push(index);
  });
  return problem.columns.map(({ step, beam, lost }) => {
    const listed = new Set([...lost, ...beam.map(({ candidate }) => candidate)]);
    const others = (byStep.get(step) ?? []).filter((index) => !listed.has(index));
    return { step, beam: beam.map(beamCell), lost: [...lost, ...others] };
  });
}

function beamCell(cell: GridColumn["beam"][number]): BeamCell {
  return { rank: cell.rank, candidate: cell.candidate, isCarried: cell.is_carried, finish: cell.finish };
}
