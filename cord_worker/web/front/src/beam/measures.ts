/** Sizes of the beam grid in pixels; the style sheet has the same. */
export const CELL_WIDTH = 104;
export const CELL_HEIGHT = 42;
/** Between two columns, for the lines. */
export const GAP = 24;
/** From the left edge of a column to that of the next. */
export const COLUMN_WIDTH = CELL_WIDTH + GAP;
/** From the top of a row to that of the next. */
export const ROW_HEIGHT = CELL_HEIGHT + 8;
/** Height of the row with the steps. */
export const HEAD_HEIGHT = 30;
/** Width of the column with the ranks. */
export const RANKS_WIDTH = 34;
