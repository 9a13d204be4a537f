/** Charts made of boxes: histograms, and spreads on a common axis. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Histogram, Spread, TeacherFigures } from "../data/documents";
import { UNKNOWN, count, counted, gain, mean, short } from "../numbers";
import { Mark, teacherClass } from "../teachers";
import { Name } from "../text/ModelText";
import { Empty } from "../ui/parts";

/** The least and the greatest whole number that a bar may count: of those that occur at all. */
function boundsOf(histogram: Histogram, index: number): [number, number] {
  const from = histogram.edges[index] ?? 0;
  const last = (histogram.edges[index + 1] ?? from + 1) - 1;
  return [Math.max(from, histogram.low ?? from), Math.min(last, histogram.high ?? last)];
}

/** The numbers that a bar counts, as text: 5, or 160 to 163. */
function rangeOf(histogram: Histogram, index: number): string {
  const [low, high] = boundsOf(histogram, index);
  return low === high ? short(low) : `${short(low)} to ${short(high)}`;
}

function meanAndLongest({ mean: middle, high }: Histogram): string {
  return `mean ${mean(middle)}, longest ${count(high)}`;
}

export function HistogramBars({ label, noun, histogram }: { label: string; noun: string; histogram: Histogram }): VNode {
  const [at, setAt] = useState<number | null>(null);
  if (histogram.counts.length === 0) return <Empty>Nothing to count yet.</Empty>;
  const most = Math.max(...histogram.counts, 1);
  const total = histogram.counts.reduce((sum, number) => sum + number, 0);
  const highest = histogram.counts.indexOf(most);
  return (
    <div class="histogram">
      <div
        class="histogram-bars"
        role="img"
        aria-label={`${label}: ${count(total)} values, most often ${rangeOf(histogram, highest)}, ${meanAndLongest(histogram)}`}
        onMouseLeave={() => setAt(null)}
      >
        {histogram.counts.map((number, index) => (
          <span key={index} class={at === index ? "bar at" : "bar"} onMouseEnter={() => setAt(index)}>
            <span style={{ height: `${(number / most) * 100}%` }} />
          </span>
        ))}
      </div>
      <div class="histogram-axis">
        <span>{short(histogram.low)}</span>
        <span class="histogram-at">
          {at === null
            ? `${counted(total, noun)}, ${meanAndLongest(histogram)}`
            : `${rangeOf(histogram, at)}: ${count(histogram.counts[at])} (${((100 * (histogram.counts[at] ?? 0)) / Math.max(total, 1)).toFixed(0)} %)`}
        </span>
        <span>{short(histogram.high)}</span>
      </div>
    </div>
  );
}

export function HistogramTable({ noun, histogram }: { noun: string; histogram: Histogram }): VNode {
  return (
    <table class="plain">
      <caption>{meanAndLongest(histogram)}</caption>
      <thead>
        <tr>
          <th>{noun}</th>
          <th class="number">Winners</th>
        </tr>
      </thead>
      <tbody>
        {histogram.counts.map((number, index) => (
          <tr key={index}>
            <th scope="row">{rangeOf(histogram, index)}</th>
            <td class="number">{count(number)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The gains of each teacher's winning steps: a bar between the quartiles, and marks at the median and the mean. */
export function GainSpreads({ teachers }: { teachers: readonly TeacherFigures[] }): VNode {
  const known = teachers.map((teacher) => teacher.gain).filter((spread) => spread.count > 0);
  if (known.length === 0) return <Empty>No winning step has a gain yet.</Empty>;
  const values = known.flatMap(({ low, high, mean: middle }) => [low ?? 0, high ?? 0, middle ?? 0, 0]);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const width = high - low || 1;
  const place = (value: number): string => `${((value - low) / width) * 100}%`;
  return (
    <div class="spreads">
      {teachers.map((teacher, index) => (
        <div key={teacher.name} class="spread">
          <span class="spread-name">
            <Mark teacher={index} /> <Name text={teacher.name} most={40} />
          </span>
          <div class="spread-track" role="img" aria-label={said(teacher.gain)} title={said(teacher.gain)}>
            <span class="spread-zero" style={{ left: place(0) }} />
            {teacher.gain.low !== null && teacher.gain.high !== null && (
              <span
                class={`spread-box ${teacherClass(index)}`}
                style={{ left: place(teacher.gain.low), width: `${((teacher.gain.high - teacher.gain.low) / width) * 100}%` }}
              />
            )}
            {teacher.gain.median !== null && <span class="spread-median" style={{ left: place(teacher.gain.median) }} />}
            {teacher.gain.mean !== null && (
              <span class={`spread-mean ${teacherClass(index)}`} style={{ left: place(teacher.gain.mean) }} />
            )}
          </div>
          <span class="spread-value">{gain(teacher.gain.mean)}</span>
        </div>
      ))}
      <div class="spread axis" aria-hidden="true">
        <span />
        <div class="spread-axis">
          <span>{gain(low)}</span>
          <span>{gain(high)}</span>
        </div>
        <span>mean</span>
      </div>
    </div>
  );
}

function said(spread: Spread): string {
  if (spread.count === 0) return "no winning step";
  return `mean ${gain(spread.mean)}, median ${gain(spread.median)}, quartiles ${gain(spread.low)} to ${gain(spread.high)}, ${counted(spread.count, "step")}`;
}

export function SpreadCells({ spread, format }: { spread: Spread; format: (value: number | null) => string }): VNode {
  return (
    <>
      <td class="number">{spread.count === 0 ? UNKNOWN : mean(spread.count)}</td>
      <td class="number">{format(spread.mean)}</td>
      <td class="number">{format(spread.median)}</td>
      <td class="number">{spread.low === null ? UNKNOWN : `${format(spread.low)} to ${format(spread.high)}`}</td>
    </>
  );
}
