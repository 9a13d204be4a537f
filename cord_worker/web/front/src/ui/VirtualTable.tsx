/** A table of any length. Its headings sort it; j and k move to the next and previous row. */
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Order, RowOf, Rows, Table } from "../data/rows";
import { useKeys } from "../keys";
import { count } from "../numbers";
import { useRenderCache } from "./renderCache";
import { useVirtual } from "./virtual";

export interface Column<T extends Table> {
  readonly name: string;
  readonly label: string;
  /** What the column holds, shown when the pointer is over its heading. */
  readonly title?: string;
  readonly cell: (row: RowOf<T>) => ComponentChildren;
  /** Whether a click on the heading sorts by this column. The first click sorts in descending order if `descends`. */
  readonly sorts?: boolean;
  readonly descends?: boolean;
  readonly isNumber?: boolean;
  /** Whether the column's cells are links to the page of the row. */
  readonly isLink?: boolean;
}

const ROW = 34;
const HEAD = 33;

/** Elements for rows. Those of rows that leave the view are used again; never are more rows than this rendered at once. */
const POOL = 160;

export function VirtualTable<D, T extends Table>(props: {
  label: string;
  /** Names the columns' widths in the style sheet. */
  kind: string;
  rows: Rows<D, T>;
  columns: readonly Column<T>[];
  order: Order;
  onOrder: (order: Order) => void;
  link: (row: RowOf<T>) => string;
}): VNode {
  const { rows, columns, order, link } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(-1);
  const { items, total, scrollTo } = useVirtual({ scroller, count: rows.matching, size: ROW, covered: HEAD });
  const first = items[0]?.index ?? 0;
  const last = items[items.length - 1]?.index ?? 0;
  useEffect(() => rows.need(first, last + 1), [rows.need, first, last]);
  useEffect(() => {
    setActive(-1);
    scroller.current?.scrollTo(0, 0);
  }, [order.sort, order.descending, props.label]);

  const owesFocus = useRef(false); // a key chose the active row, which may not be rendered yet
  useLayoutEffect(() => {
    if (!owesFocus.current) return;
    const found = scroller.current?.querySelector<HTMLElement>(`[data-index="${active}"] a`);
    if (found != null) {
      owesFocus.current = false;
      found.focus({ preventScroll: true });
    }
  });
  const move = (by: number): void => {
    const next = Math.min(Math.max(active + by, 0), rows.matching - 1);
    if (next < 0) return;
    owesFocus.current = true;
    setActive(next);
    scrollTo(next);
  };
  useKeys({ j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1) });

  const cache = useRenderCache();
  return (
    <div
      ref={scroller}
      class={`virtual-table ${props.kind}`}
      role="table"
      aria-label={props.label}
      aria-rowcount={rows.matching + 1}
      tabIndex={0}
    >
      <Headings columns={columns} order={order} onOrder={props.onOrder} />
      <div
        role="rowgroup"
        class="vt-body"
        style={{ height: `${total}px` }}
        onClick={(event) => {
          const target = event.target as Element;
          const index = Number(target.closest<HTMLElement>("[data-index]")?.dataset["index"] ?? NaN);
          const row = rows.at(index);
          if (Number.isNaN(index) || row === undefined) return;
          setActive(index);
          if (target.closest("a, button") === null) location.hash = link(row);
        }}
      >
        {items.map(({ index, start }) =>
          cache.part(index, [rows.origin(index), columns, index === active], () => {
            const row = rows.at(index);
            return (
              <div
                key={index % POOL}
                role="row"
                aria-rowindex={index + 2}
                data-index={index}
                class={index === active ? "vt-row active" : "vt-row"}
                style={{ transform: `translateY(${start}px)` }}
              >
                {row === undefined ? <Pending index={index} /> : columns.map((column) => cellOf(column, row, link))}
              </div>
            );
          }),
        )}
      </div>
    </div>
  );
}

function classOf<T extends Table>(column: Column<T>): string {
  return `vt-cell col-${column.name}${column.isNumber === true ? " number" : ""}`;
}

function titleOf<T extends Table>({ title }: Column<T>): { title?: string } {
  return title === undefined ? {} : { title };
}

function cellOf<T extends Table>(column: Column<T>, row: RowOf<T>, link: (row: RowOf<T>) => string): VNode {
  return (
    <div key={column.name} role="cell" class={classOf(column)}>
      {column.isLink === true ? <a href={link(row)}>{column.cell(row)}</a> : column.cell(row)}
    </div>
  );
}

function Pending({ index }: { index: number }): VNode {
  return (
    <div role="cell" class="vt-cell pending">
      {count(index + 1)} …
    </div>
  );
}

function Headings<T extends Table>(props: {
  columns: readonly Column<T>[];
  order: Order;
  onOrder: (order: Order) => void;
}): VNode {
  const { order } = props;
  const signOf = ({ name }: Column<T>): "none" | "descending" | "ascending" =>
    order.sort !== name ? "none" : order.descending ? "descending" : "ascending";
  const sort = ({ name, descends }: Column<T>): void =>
    props.onOrder({ sort: name, descending: order.sort === name ? !order.descending : descends === true });
  return (
    <div role="rowgroup" class="vt-head">
      <div role="row" class="vt-row" aria-rowindex={1}>
        {props.columns.map((column) =>
          column.sorts === true ? (
            <div key={column.name} role="columnheader" class={classOf(column)} aria-sort={signOf(column)}>
              <button type="button" class="sort" {...titleOf(column)} onClick={() => sort(column)}>
                {column.label}
                <span class="sort-sign" aria-hidden="true">
                  {{ none: "", descending: "↓", ascending: "↑" }[signOf(column)]}
                </span>
              </button>
            </div>
          ) : (
            <div key={column.name} role="columnheader" class={classOf(column)} {...titleOf(column)}>
              {column.label}
            </div>
          ),
        )}
      </div>
    </div>
  );
}
