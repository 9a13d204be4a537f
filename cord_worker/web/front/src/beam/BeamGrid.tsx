/** The search of a problem as a grid: a column for each step, a row for each slot. Only what is in view is rendered. */
import type { VirtualItem } from "@tanstack/virtual-core";
import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { counted } from "../numbers";
import { useRenderCache } from "../ui/renderCache";
import { useVirtual } from "../ui/virtual";
import { CellView, cellId } from "./CellView";
import { Links } from "./Links";
import type { Grid, Place } from "./layout";
import { CELL_HEIGHT, COLUMN_WIDTH, HEAD_HEIGHT, RANKS_WIDTH, ROW_HEIGHT } from "./measures";

export interface BeamGridProps {
  readonly grid: Grid;
  /** The columns whose losers are shown. */
  readonly open: ReadonlySet<number>;
  readonly active: Place;
  /** The candidate whose path is marked. */
  readonly chosen: number | null;
  readonly onActive: (place: Place) => void;
  readonly onFold: (column: number) => void;
}

export function BeamGrid({ grid, open, active, chosen, onActive, onFold }: BeamGridProps): VNode {
  const scroller = useRef<HTMLDivElement>(null);
  const rowCount = grid.rowCount(open);
  const columns = useVirtual({
    scroller,
    count: grid.columns.length,
    size: COLUMN_WIDTH,
    isHorizontal: true,
    overscan: 3,
    covered: RANKS_WIDTH,
  });
  const rows = useVirtual({ scroller, count: rowCount, size: ROW_HEIGHT, overscan: 4, covered: HEAD_HEIGHT });
  const path = useMemo(() => new Set(chosen === null ? [] : grid.path(chosen)), [grid, chosen]);

  useLayoutEffect(() => {
    columns.scrollTo(active.column);
    rows.scrollTo(active.row);
  }, [active.column, active.row]);
  useEffect(() => {
    // If nothing else has the focus when the page opens, the grid takes it, so that Enter and Space work at once.
    if (document.activeElement === document.body || document.activeElement === null) {
      scroller.current?.focus({ preventScroll: true });
    }
  }, []);

  const activate = (place: Place): void => {
    onActive(place);
    if (grid.cell(place, open).kind === "fold") onFold(place.column);
    scroller.current?.focus({ preventScroll: true });
  };
  // A cached cell was rendered with an older `activate`, so it calls the latest one through this reference.
  const latest = useRef(activate);
  latest.current = activate;
  const cache = useRenderCache();
  const cellAt = (column: VirtualItem, row: number): VNode => {
    const isActive = column.index === active.column && row === active.row;
    const onPath = isOnPath(grid, open, path, column.index, row);
    return cache.part(`${column.index} ${row}`, [grid, open, isActive, onPath], () => (
      <CellView
        key={column.index}
        grid={grid}
        open={open}
        place={{ column: column.index, row }}
        left={RANKS_WIDTH + column.start}
        isActive={isActive}
        isOnPath={onPath}
        onActivate={(place) => latest.current(place)}
      />
    ));
  };
  // Both are rounded to whole blocks of rows. So the lines are not drawn again for every row that comes into view.
  const firstRow = toBlock(rows.items[0]?.index ?? 0, Math.floor);
  const lastRow = toBlock(rows.items[rows.items.length - 1]?.index ?? 0, Math.ceil);
  const width = RANKS_WIDTH + columns.total;
  return (
    <div
      ref={scroller}
      class="beam"
      role="grid"
      aria-label={`Search: ${counted(grid.columns.length, "step")}, ${counted(grid.slots, "slot")}`}
      aria-rowcount={rowCount + 1}
      aria-colcount={grid.columns.length + 1}
      aria-activedescendant={cellId(active)}
      tabIndex={0}
      onKeyDown={(event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          activate(active);
        }
      }}
    >
      <div class="beam-head" role="row" aria-rowindex={1} style={{ width: `${width}px` }}>
        <div class="beam-corner" role="columnheader" aria-colindex={1}>
          step
        </div>
        {columns.items.map((item) => (
          <div
            key={item.index}
            class={item.index === active.column ? "beam-step at" : "beam-step"}
            role="columnheader"
            aria-colindex={item.index + 2}
            style={{ transform: `translateX(${item.start}px)` }}
          >
            {grid.columns[item.index]?.step}
          </div>
        ))}
      </div>
      <div class="beam-body" role="rowgroup" style={{ width: `${width}px`, height: `${rows.total}px` }}>
        <Links grid={grid} open={open} path={path} columns={columns.items} from={firstRow} until={lastRow} height={rows.total} />
        {rows.items.map((row) => (
          <div
            key={row.index}
            class="beam-row"
            role="row"
            aria-rowindex={row.index + 2}
            style={{ transform: `translateY(${row.start}px)`, width: `${width}px`, height: `${CELL_HEIGHT}px` }}
          >
            <div class="beam-rank" role="rowheader" aria-colindex={1}>
              {row.index < grid.slots ? row.index : <span class="hidden">not kept</span>}
            </div>
            {columns.items.map((column) => cellAt(column, row.index))}
          </div>
        ))}
      </div>
    </div>
  );
}

const BLOCK = 10;

function toBlock(row: number, round: (value: number) => number): number {
  return round(row / BLOCK) * BLOCK;
}

function isOnPath(grid: Grid, open: ReadonlySet<number>, path: ReadonlySet<number>, column: number, row: number): boolean {
  const cell = grid.cell({ column, row }, open);
  return (cell.kind === "slot" || cell.kind === "lost") && path.has(cell.candidate);
}
