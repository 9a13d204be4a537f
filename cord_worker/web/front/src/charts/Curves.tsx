/** A run's curves: score by step, and events over time. */
import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { StepScores, Timeline } from "../data/documents";
import { count, counted, exactMoment, interval, moment, rate, score, short } from "../numbers";
import { Card, Choices, Empty } from "../ui/parts";
import { SpreadCells } from "./Bars";
import { Plot } from "./Plot";

export function ScoreByStep({ scores }: { scores: readonly StepScores[] }): VNode {
  const shape = useMemo(
    () => ({
      x: scores.map((one) => one.step),
      lines: [
        { label: "winners, median", values: scores.map((one) => one.winners.median), tone: "tone-main" },
        { label: "kept, median", values: scores.map((one) => one.kept.median), tone: "tone-second", isDashed: true },
      ],
      band: {
        low: scores.map((one) => one.winners.low),
        high: scores.map((one) => one.winners.high),
        tone: "tone-main",
      },
    }),
    [scores],
  );
  const numbers = (): VNode => (
    <table class="plain">
      <thead>
        <tr>
          <th class="number">Step</th>
          {["Winners", "mean", "median", "middle half", "Kept", "mean", "median", "middle half"].map((name, index) => (
            <th key={index} class="number">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {scores.map((one) => (
          <tr key={one.step}>
            <th scope="row" class="number">
              {one.step}
            </th>
            <SpreadCells spread={one.winners} format={score} />
            <SpreadCells spread={one.kept} format={score} />
          </tr>
        ))}
      </tbody>
    </table>
  );
  const last = scores[scores.length - 1];
  return (
    <Card title="Score by step" note={noteOf(scores)} numbers={numbers}>
      {scores.length < 2 || last === undefined ? (
        <Empty>Nothing is scored yet.</Empty>
      ) : (
        <Plot
          label={`Median score of winners from ${score(scores[0]?.winners.median)} at step ${scores[0]?.step} to ${score(last.winners.median)} at step ${last.step}`}
          x={shape.x}
          xName={(step) => (step === 0 ? "before step 1" : `step ${step}, ${counted(winnersAt(scores, step), "winner")}`)}
          lines={shape.lines}
          band={shape.band}
          format={score}
          height={220}
          range={[0, 1]}
        />
      )}
    </Card>
  );
}

function winnersAt(scores: readonly StepScores[], step: number): number {
  return scores.find((one) => one.step === step)?.winners.count ?? 0;
}

/** What the lines are. If short winners are missing at the later steps, it says how many are left. */
function noteOf(scores: readonly StepScores[]): string {
  const about = "Lines: medians. Step 0 is the base score. The band holds the middle half of the winners.";
  const steps = scores.filter((one) => one.step > 0);
  const all = steps[0]?.winners.count ?? 0;
  const fewer = steps.find((one) => one.winners.count < all);
  const last = steps[steps.length - 1];
  if (fewer === undefined || last === undefined) return about;
  return (
    `${about} A step has only the winners that are as long: from step ${fewer.step} on, shorter ones are missing ` +
    `(${count(all)} at step 1, ${count(last.winners.count)} at step ${last.step}), so a fall there need not be a loss.`
  );
}

type Throughput = "problems" | "requests" | "tokens";

const THROUGHPUTS = [
  { value: "problems", label: "Problems" },
  { value: "requests", label: "Steps and scores" },
  { value: "tokens", label: "Tokens" },
] as const;

/** A unit of time in which a rate is easy to read; `factor` turns a number per bucket into a number per unit. */
function rateUnit(bucketSeconds: number): { unit: string; factor: number } {
  if (bucketSeconds >= 1800) return { unit: "hour", factor: 3600 / bucketSeconds };
  return bucketSeconds >= 30 ? { unit: "minute", factor: 60 / bucketSeconds } : { unit: "second", factor: 1 / bucketSeconds };
}

export function OverTime({ timeline }: { timeline: Timeline }): VNode {
  const [throughput, setThroughput] = useState<Throughput>("problems");
  const { unit, factor } = rateUnit(timeline.bucket_seconds);
  const shape = useMemo(() => {
    const start = timeline.start === null ? 0 : Date.parse(timeline.start) / 1000;
    const scaled = (values: readonly number[]): number[] => values.map((value) => value * factor);
    const line = (label: string, values: readonly number[], tone: string, more = {}) => ({
      label,
      values: scaled(values),
      tone,
      isStepped: true,
      ...more,
    });
    const rates = {
      problems: [
        line("finished", timeline.finished, "tone-main", { isFilled: true }),
        line("failed", timeline.failed, "tone-bad"),
      ],
      requests: [
        line("steps proposed", timeline.steps, "tone-main", { isFilled: true }),
        line("scored", timeline.scores, "tone-second", { isDashed: true }),
      ],
      tokens: [line("tokens", timeline.tokens, "tone-main", { isFilled: true })],
    }[throughput];
    const backlog = [
      { label: "waiting", values: timeline.queued, tone: "tone-quiet", isFilled: true },
      { label: "in flight", values: timeline.active, tone: "tone-third" },
    ];
    return { x: timeline.queued.map((_, index) => start + index * timeline.bucket_seconds), rates, backlog };
  }, [timeline, throughput, factor]);
  const formatted = timeline.bucket_seconds < 60 ? exactMoment : moment;
  const timeLabel = (value: number): string => formatted(new Date(value * 1000).toISOString());
  const width = interval(timeline.bucket_seconds);
  const numbers = (): VNode => (
    <table class="plain">
      <caption>Numbers in each {width}; waiting and in flight at its end</caption>
      <thead>
        <tr>
          {["From", "Finished", "Failed", "Steps", "Scores", "Tokens", "Waiting", "In flight"].map((name) => (
            <th key={name} class={name === "From" ? "" : "number"}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {shape.x.map((at, index) => (
          <tr key={at}>
            <th scope="row">{timeLabel(at)}</th>
            {[timeline.finished, timeline.failed, timeline.steps, timeline.scores, timeline.tokens, timeline.queued, timeline.active].map(
              (values, column) => (
                <td key={column} class="number">
                  {count(values[index])}
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
  return (
    <Card title="Over time" wide numbers={numbers}>
      {timeline.start === null || shape.x.length < 2 ? (
        <Empty>Nothing has happened yet.</Empty>
      ) : (
        <>
          <div class="plot-head">
            <Choices label="Throughput of" choices={THROUGHPUTS} value={throughput} onChange={setThroughput} />
            <span class="hint">
              per {unit}, from the numbers in each {width}
            </span>
          </div>
          <Plot
            key={throughput}
            label={`Throughput over time, ${throughput} per ${unit}`}
            x={shape.x}
            isTime
            xName={timeLabel}
            lines={shape.rates}
            format={rate}
            height={170}
            group="time"
          />
          <h3 class="plot-title">Backlog, in problems</h3>
          <Plot
            label="Problems waiting and in flight over time"
            x={shape.x}
            isTime
            xName={timeLabel}
            lines={shape.backlog}
            format={short}
            isWhole
            height={130}
            group="time"
          />
        </>
      )}
    </Card>
  );
}
