/** Failed problems by cause, and invalid candidates by teacher and reason. */
import type { VNode } from "preact";
import type { RunDocument } from "../data/documents";
import { count, counted, percent, words } from "../numbers";
import { address } from "../route";
import { Mark } from "../teachers";
import { ModelText, Name } from "../text/ModelText";
import { Card, Empty } from "../ui/parts";

export function FailureLists({ run, about }: { run: string; about: RunDocument }): VNode {
  return (
    <>
      <Card title="Failed problems">
        {about.failures.length === 0 ? (
          <Empty>No problem has failed.</Empty>
        ) : (
          <ul class="failures">
            {about.failures.map((failure) => (
              <li key={failure.position}>
                <span class="failure-count">{counted(failure.count, "problem")}</span>
                <div class="failure-reason">
                  <ModelText text={failure.reason.slice(0, 1000)} plain />
                  <span class="sub">
                    {failure.is_technical && "The problems are not at fault. "}
                    First: <a href={address.problem(run, failure.position)}><Name text={failure.id} most={60} /></a>
                  </span>
                </div>
              </li>
            ))}
          </ul>
        )}
      </Card>
      <Card
        title="Invalid candidates"
        note="Invalid candidates never enter a beam. A duplicate has the text of an earlier sibling, which stands for both; other tables do not count duplicates as invalid."
      >
        <InvalidTable about={about} />
      </Card>
    </>
  );
}

const DUPLICATE = "duplicate";

function InvalidTable({ about }: { about: RunDocument }): VNode {
  if (about.invalid.length === 0) return <Empty>No candidate is invalid.</Empty>;
  const totals = new Map<string, number>();
  for (const { reason, count: number } of about.invalid) totals.set(reason, (totals.get(reason) ?? 0) + number);
  const isLast = (reason: string): number => Number(reason === DUPLICATE);
  const reasons = [...totals.keys()].sort(
    (a, b) => isLast(a) - isLast(b) || (totals.get(b) ?? 0) - (totals.get(a) ?? 0),
  );
  const countOf = (teacher: string, reason: string): number =>
    about.invalid.find((one) => one.teacher === teacher && one.reason === reason)?.count ?? 0;
  return (
    <div class="table-scroll" tabIndex={0}>
      <table class="plain heat">
        <thead>
          <tr>
            <th>Reason</th>
            {about.teachers.map((teacher, index) => (
              <th key={teacher.name} class="number">
                <Mark teacher={index} /> <Name text={teacher.name} most={24} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {reasons.map((reason) => (
            <tr key={reason}>
              <th scope="row">
                {words(reason)}
                {reason === DUPLICATE && <span class="sub">not counted as invalid</span>}
              </th>
              {about.teachers.map((teacher) => {
                const number = countOf(teacher.name, reason);
                const share = number / Math.max(teacher.proposed, 1);
                return (
                  <td key={teacher.name} class={`number heat-${reason === DUPLICATE ? 0 : heat(share)}`} title={`${percent(share)} of its proposals`}>
                    {number === 0 ? "·" : count(number)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** How strongly the cell of a share of invalid proposals is tinted. */
function heat(share: number): 0 | 1 | 2 | 3 {
  if (share === 0) return 0;
  if (share < 0.01) return 1;
  return share < 0.05 ? 2 : 3;
}
