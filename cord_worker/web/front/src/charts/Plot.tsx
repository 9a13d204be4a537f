/** uPlot in the colours of the page: lines over steps or time. The legend shows the values under the pointer. */
import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { UNKNOWN, ticks } from "../numbers";
import { useTheme } from "../theme";

export interface Line {
  readonly label: string;
  readonly values: readonly (number | null)[];
  /** A colour of the style sheet: `--tone-…`. */
  readonly tone: string;
  readonly isDashed?: boolean;
  readonly isFilled?: boolean;
  readonly isStepped?: boolean;
}

export interface Band {
  readonly low: readonly (number | null)[];
  readonly high: readonly (number | null)[];
  readonly tone: string;
}

export interface PlotProps {
  /** What a screen reader says instead of the drawing. */
  readonly label: string;
  readonly x: readonly number[];
  /** Whether x is in seconds since 1970. */
  readonly isTime?: boolean;
  readonly xName: (value: number) => string;
  readonly lines: readonly Line[];
  readonly band?: Band;
  readonly format: (value: number) => string;
  /** Whether the values are whole numbers, so that the axis has no others. */
  readonly isWhole?: boolean;
  readonly height: number;
  /** Bounds of y; without them, those of the values. */
  readonly range?: readonly [number, number];
  /** Plots of one group move their cursors together. */
  readonly group?: string;
}

/** The distances that ticks may have if all values are whole numbers. */
const WHOLE = [...Array(16).keys()].flatMap((exponent) => [1, 2, 5].map((factor) => factor * 10 ** exponent));

/**
 * The range of y: from 0, or from the lowest value if it is negative; to a little above the highest value, or to 1 if no
 * value is positive.
 */
function rangeOf(_: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax {
  const top = high !== null && high > 0 ? high * 1.08 : 1;
  return [Math.min(0, low ?? 0), top];
}

const FONT = "11px system-ui, sans-serif";

/** Returns a function that gives the value of a custom property as a colour that a canvas understands. */
function coloursIn(parent: HTMLElement): (tone: string, opacity?: number) => string {
  const probe = document.createElement("span");
  parent.append(probe);
  const found = new Map<string, string>();
  return (tone, opacity = 1) => {
    let colour = found.get(tone);
    if (colour === undefined) {
      probe.style.color = `var(--${tone})`;
      colour = getComputedStyle(probe).color;
      found.set(tone, colour);
    }
    return opacity === 1 ? colour : colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
  };
}

function optionsOf(props: PlotProps, parent: HTMLElement, width: number, onCursor: (index: number | null) => void): uPlot.Options {
  const colour = coloursIn(parent);
  const quiet = colour("text-soft");
  const grid = { stroke: colour("line-faint"), width: 1 };
  const series: uPlot.Series[] = [{}];
  for (const line of props.lines) {
    series.push({
      label: line.label,
      stroke: colour(line.tone),
      width: 1.75,
      ...(line.isDashed === true ? { dash: [5, 4] } : {}),
      ...(line.isFilled === true ? { fill: colour(line.tone, 0.14) } : {}),
      ...(line.isStepped === true && uPlot.paths.stepped !== undefined
        ? { paths: uPlot.paths.stepped({ align: 1 }) }
        : {}),
      points: { show: props.x.length <= 12, size: 5, fill: colour(line.tone) },
    });
  }
  const bands: uPlot.Band[] = [];
  if (props.band !== undefined) {
    const hidden = { stroke: "transparent", points: { show: false } };
    series.push({ label: "", ...hidden }, { label: "", ...hidden });
    const low = props.lines.length + 1;
    bands.push({ series: [low + 1, low], fill: colour(props.band.tone, 0.16) });
  }
  return {
    width,
    height: props.height,
    padding: [8, 8, 0, 0],
    series,
    bands,
    legend: { show: false },
    scales: {
      x: { time: props.isTime === true },
      y: props.range !== undefined ? { range: [...props.range] as [number, number] } : { range: rangeOf },
    },
    axes: [
      {
        stroke: quiet,
        font: FONT,
        grid: { show: false },
        ticks: { ...grid, size: 4 },
        gap: 4,
        size: 28,
        ...(props.isTime === true
          ? { space: 72, values: (_: uPlot, at: number[]) => at.map((value) => timeLabel(value, at)) }
          : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] }),
      },
      {
        stroke: quiet,
        font: FONT,
        grid,
        ticks: { show: false },
        gap: 6,
        size: 46,
        values: (_plot, values, _axis, _space, distance) => ticks(values, distance),
        ...(props.isWhole === true ? { incrs: WHOLE } : {}),
      },
    ],
    cursor: {
      y: false,
      points: { size: 7 },
      drag: { x: false, y: false, setScale: false },
      ...(props.group === undefined ? {} : { sync: { key: props.group } }),
    },
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)] },
  };
}

const SECOND = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const HOUR_MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** A label of the time axis: the time of day, or the date at the beginning of a day. */
function timeLabel(value: number, all: readonly number[]): string {
  const at = new Date(value * 1000);
  const isMidnight = at.getHours() === 0 && at.getMinutes() === 0;
  const distance = (all[1] ?? value) - (all[0] ?? value);
  if (distance < 60) return SECOND.format(at);
  return isMidnight || distance >= 86_400 ? DAY.format(at) : HOUR_MINUTE.format(at);
}

export function Plot(props: PlotProps): VNode {
  const container = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const { isDark } = useTheme();
  const data: uPlot.AlignedData = [
    [...props.x],
    ...props.lines.map((line) => [...line.values]),
    ...(props.band === undefined ? [] : [[...props.band.low], [...props.band.high]]),
  ];
  // If this changes, the plot is made again; otherwise only its data is replaced.
  const shape = JSON.stringify([props.label, props.lines.map((line) => [line.label, line.tone]), props.height, isDark]);

  useEffect(() => {
    const element = container.current;
    if (element === null) return;
    const made = new uPlot(optionsOf(props, element, element.clientWidth || 600, setAt), data, element);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height: props.height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      element.replaceChildren();
      plot.current = null;
    };
  }, [shape]);
  const isFirst = useRef(true); // the constructor above gets the first data
  useEffect(() => {
    if (isFirst.current) isFirst.current = false;
    else plot.current?.setData(data);
  }, [props.x, props.lines, props.band]);

  const x = at === null ? undefined : props.x[at];
  return (
    <div class="plot">
      <div class="legend">
        {props.lines.map((line) => {
          const value = at === null ? undefined : line.values[at];
          return (
            <span key={line.label} class="legend-item">
              <span class={`stroke ${line.tone}${line.isDashed === true ? " dashed" : ""}`} aria-hidden="true" />
              {line.label}
              {at !== null && <b>{value === null || value === undefined ? UNKNOWN : props.format(value)}</b>}
            </span>
          );
        })}
        <span class="legend-place">{x === undefined ? "" : props.xName(x)}</span>
      </div>
      <div ref={container} class="plot-place" role="img" aria-label={props.label} />
    </div>
  );
}
