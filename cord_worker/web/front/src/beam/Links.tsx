/** Lines between the columns: from every cell in view to the trajectory that it extends. */
import type { VirtualItem } from "@tanstack/virtual-core";
import type { VNode } from "preact";
import { useRenderCache } from "../ui/renderCache";
import type { Grid } from "./layout";
import { CELL_HEIGHT, GAP, RANKS_WIDTH, ROW_HEIGHT } from "./measures";

export interface LinksProps {
  readonly grid: Grid;
  readonly open: ReadonlySet<number>;
  /** The candidates from the root to the chosen one. */
  readonly path: ReadonlySet<number>;
  readonly columns: readonly VirtualItem[];
  /** The first and the last row in view. */
  readonly from: number;
  readonly until: number;
  readonly height: number;
}

const MIDDLE = CELL_HEIGHT / 2 - 2;

export function Links(props: LinksProps): VNode {
  const { grid, open, path, from, until, height } = props;
  const cache = useRenderCache();
  return (
    <>
      {props.columns.map((column) => {
        const isOpen = open.has(column.index);
        return cache.part(column.index, [grid, path, isOpen, isOpen && from, isOpen && until, height], () => (
          <svg
            key={column.index}
            class="links"
            width={GAP}
            height={isOpen ? height : grid.slots * ROW_HEIGHT}
            aria-hidden="true"
            style={{ transform: `translateX(${RANKS_WIDTH + column.start - GAP}px)` }}
          >
            {lines(props, column.index)}
          </svg>
        ));
      })}
    </>
  );
}

/** The lines that end in one column: all lines to its beam, and those to losers that are in view. */
function lines({ grid, open, path, from, until }: LinksProps, column: number): VNode[] {
  const result: VNode[] = [];
  const rows = [...Array(grid.slots).keys()];
  if (open.has(column)) {
    for (let row = Math.max(grid.foldRow + 1, from); row <= until; row += 1) rows.push(row);
  }
  for (const row of rows) {
    const cell = grid.cell({ column, row }, open);
    const before = grid.rowBefore(column, cell);
    if (before === null || (cell.kind !== "slot" && cell.kind !== "lost")) continue;
    const start = before * ROW_HEIGHT + MIDDLE;
    const end = row * ROW_HEIGHT + MIDDLE;
    const kinds = [`link-${cell.kind}`];
    if (path.has(cell.candidate)) kinds.push("link-chosen");
    if (grid.winning.has(cell.candidate)) kinds.push("link-winning");
    if (cell.kind === "slot" && cell.beam.isCarried) kinds.push("link-carried");
    result.push(
      <path
        key={row}
        class={`link ${kinds.join(" ")}`}
        d={`M0 ${start}C${GAP / 2} ${start} ${GAP / 2} ${end} ${GAP} ${end}`}
      />,
    );
  }
  return result;
}
