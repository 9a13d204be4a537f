/** Sizes of the grid in pixels; the style sheet has the same. */
export const CELL_WIDTH = 104;
export const CELL_HEIGHT = 42;
export const GAP = 24;
export const COLUMN = CELL_WIDTH + GAP;
export const ROW = CELL_HEIGHT + 8;
export const HEAD = 30;
export const RANKS = 34;
