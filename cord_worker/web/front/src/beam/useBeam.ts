/** Which cell is active, which columns are open, and the keys that change both. */
import { useEffect, useMemo, useState } from "preact/hooks";
import type { ProblemDocument } from "../data/documents";
import { useKeys } from "../keys";
import { type Cell, Grid, type Place } from "./layout";

export interface Beam {
  readonly grid: Grid;
  readonly open: ReadonlySet<number>;
  readonly active: Place;
  /**
   * The candidate of the active cell. If that is a fold or an empty slot, the candidate that was chosen last; null if
   * there is no candidate.
   */
  readonly candidate: number | null;
  readonly setActive: (place: Place) => void;
  readonly fold: (column: number) => void;
  readonly choose: (candidate: number) => void;
  readonly foldAll: () => void;
}

/** `wanted`: the candidate in the address, null without one. `onCandidate` writes it there. */
export function useBeam(problem: ProblemDocument, wanted: number | null, onCandidate: (candidate: number) => void): Beam {
  const grid = useMemo(() => new Grid(problem), [problem]);
  const start = wanted ?? problem.path[0] ?? grid.columns[0]?.beam[0]?.candidate ?? 0;
  const home = grid.home(start) ?? { column: 0, row: 0 };
  const [place, setPlace] = useState<Place>(home);
  const [open, setOpen] = useState<ReadonlySet<number>>(() => columnsToOpen(grid, home));
  const active = {
    column: Math.min(place.column, Math.max(grid.columns.length - 1, 0)),
    row: Math.min(place.row, grid.rowCount(open) - 1),
  };
  const cell = grid.cell(active, open);
  const last = wanted ?? start;
  const candidate = candidateOf(cell) ?? (grid.home(last) === undefined ? null : last);

  const setActive = (next: Place): void => {
    setPlace(next);
    const chosen = candidateOf(grid.cell(next, open));
    if (chosen !== null) onCandidate(chosen);
  };
  const choose = (chosen: number): void => {
    const at = grid.home(chosen);
    if (at === undefined) return;
    setOpen((before) => new Set([...before, ...columnsToOpen(grid, at)]));
    setPlace(at);
    onCandidate(chosen);
  };
  useEffect(() => {
    if (wanted !== null && wanted !== candidateOf(cell)) choose(wanted);
  }, [wanted]);
  const fold = (column: number): void => {
    if ((grid.columns[column]?.lost.length ?? 0) === 0) return;
    const next = new Set(open);
    if (!next.delete(column)) next.add(column);
    setOpen(next);
    if (place.column === column && place.row > grid.foldRow) setPlace({ column, row: grid.foldRow });
  };
  const foldAll = (): void => {
    const isAllOpen = open.size === grid.columns.length;
    setOpen(new Set(isAllOpen ? [] : grid.columns.keys()));
    if (isAllOpen && place.row > grid.foldRow) setPlace({ column: place.column, row: grid.foldRow });
  };
  const move = (columns: number, rows: number): void => {
    if (grid.columns.length === 0) return;
    const column = Math.min(Math.max(active.column + columns, 0), grid.columns.length - 1);
    const lost = grid.columns[column]?.lost.length ?? 0;
    const lowest = lost === 0 ? grid.slots - 1 : grid.foldRow + (open.has(column) ? lost : 0);
    setActive({ column, row: Math.min(Math.max(active.row + rows, 0), lowest) });
  };
  useKeys({
    ArrowLeft: () => move(-1, 0),
    ArrowRight: () => move(1, 0),
    ArrowUp: () => move(0, -1),
    ArrowDown: () => move(0, 1),
    Home: () => move(-Infinity, 0),
    End: () => move(Infinity, 0),
    p: () => {
      const parent = candidate === null ? null : (problem.candidates.parent[candidate] ?? null);
      if (parent !== null) choose(parent);
    },
    c: () => {
      const child = candidate === null ? undefined : grid.children(candidate)[0];
      if (child !== undefined) choose(child);
    },
    w: () => {
      const winner = problem.path[Math.min(active.column, problem.path.length - 1)];
      if (winner !== undefined) choose(winner);
    },
    f: () => fold(active.column),
    F: () => foldAll(),
  });
  return { grid, open, active, candidate, setActive, fold, choose, foldAll };
}

/** The columns that must be open for a place to be shown. */
function columnsToOpen(grid: Grid, { column, row }: Place): Set<number> {
  return new Set(row > grid.foldRow ? [column] : []);
}

function candidateOf(cell: Cell): number | null {
  return cell.kind === "slot" || cell.kind === "lost" ? cell.candidate : null;
}
