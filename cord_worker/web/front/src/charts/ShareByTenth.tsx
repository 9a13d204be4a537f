/** The paper's Figure 2: the teachers' shares of the winning steps, by tenth of the decoding position. */
import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { SelectionCell, TeacherFigures } from "../data/documents";
import { UNKNOWN, counted, percent } from "../numbers";
import { Mark, teacherClass } from "../teachers";
import { Name } from "../text/ModelText";
import { Card, Empty } from "../ui/parts";

const TENTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] as const;
const PARTS = [
  [1, 3],
  [4, 7],
  [8, 10],
] as const;

interface Props {
  readonly teachers: readonly TeacherFigures[];
  readonly selection: readonly SelectionCell[];
}

export function ShareByTenth({ teachers, selection }: Props): VNode {
  const [at, setAt] = useState<number | null>(null);
  const cell = (teacher: string, tenth: number): SelectionCell | undefined =>
    selection.find((one) => one.teacher === teacher && one.tenth === tenth);
  /** The teacher's share of all winning steps in these tenths. */
  const shareIn = (teacher: string, [from, until]: readonly [number, number]): number | null => {
    const inside = selection.filter(({ tenth }) => tenth >= from && tenth <= until);
    const all = inside.reduce((sum, { credit }) => sum + credit, 0);
    const own = inside.reduce((sum, one) => sum + (one.teacher === teacher ? one.credit : 0), 0);
    return all > 0 ? own / all : null;
  };
  const numbers = (): VNode => (
    <table class="plain">
      <caption>Share of the winning steps, by tenth of the position, and in several tenths together</caption>
      <thead>
        <tr>
          <th>Teacher</th>
          {PARTS.map(([from, until]) => (
            <th key={from} class="number">
              {from} to {until}
            </th>
          ))}
          {TENTHS.map((tenth) => (
            <th key={tenth} class="number">
              {tenth}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {teachers.map((teacher) => (
          <tr key={teacher.name}>
            <th scope="row">
              <Name text={teacher.name} most={40} />
            </th>
            {PARTS.map((part) => (
              <td key={part[0]} class="number">
                {percent(shareIn(teacher.name, part))}
              </td>
            ))}
            {TENTHS.map((tenth) => (
              <td key={tenth} class="number">
                {percent(cell(teacher.name, tenth)?.share, 0)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
  const winningSteps = (tenth: number): number =>
    Math.round(teachers.reduce((sum, teacher) => sum + (cell(teacher.name, tenth)?.credit ?? 0), 0));
  const hasAny = selection.some((one) => one.share !== null && one.share > 0);
  return (
    <Card
      title="Who writes which part"
      note="Each teacher's share of the winning steps, by tenth of the position in the trajectory. The button Numbers also shows the shares in the first three, the middle four and the last three tenths together."
      numbers={numbers}
    >
      <ul class="legend teachers">
        {teachers.map((teacher, index) => (
          <li key={teacher.name} class="legend-item">
            <Mark teacher={index} /> <Name text={teacher.name} most={40} />
            <b>{percent(at === null ? teacher.share : (cell(teacher.name, at)?.share ?? null), 0)}</b>
          </li>
        ))}
        <li class="legend-place">{at === null ? "all" : `tenth ${at}, ${counted(winningSteps(at), "winning step")}`}</li>
      </ul>
      {hasAny ? (
        <div class="tenths" role="img" aria-label={spokenShares({ teachers, selection })} onMouseLeave={() => setAt(null)}>
          <div class="tenths-scale" aria-hidden="true">
            <span>100 %</span>
            <span>50</span>
            <span>0</span>
          </div>
          {TENTHS.map((tenth) => (
            <div key={tenth} class={at === tenth ? "tenth at" : "tenth"} onMouseEnter={() => setAt(tenth)}>
              <div class="tenth-bar">
                {teachers.map((teacher, index) => {
                  const share = cell(teacher.name, tenth)?.share ?? 0;
                  return share > 0 ? (
                    <span key={teacher.name} class={teacherClass(index)} style={{ flexGrow: share }} />
                  ) : null;
                })}
              </div>
              <span class="tenth-name">{tenth}</span>
            </div>
          ))}
        </div>
      ) : (
        <Empty>No problem has a winner yet.</Empty>
      )}
    </Card>
  );
}

function spokenShares({ teachers, selection }: Props): string {
  const largest = TENTHS.map((tenth) => {
    const cells = selection.filter((one) => one.tenth === tenth && one.share !== null);
    const first = [...cells].sort((a, b) => (b.share ?? 0) - (a.share ?? 0))[0];
    return first === undefined ? `tenth ${tenth}: ${UNKNOWN}` : `tenth ${tenth}: ${first.teacher} ${percent(first.share, 0)}`;
  });
  return `Shares of ${teachers.length} teachers in the winning steps. Largest share by tenth: ${largest.join("; ")}.`;
}
