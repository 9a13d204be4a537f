/** All steps from the root to a candidate. Each is rendered when it comes near the visible part. */
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { gain, score } from "../numbers";
import { Mark } from "../teachers";
import { ModelText, Name } from "../text/ModelText";
import { Correct } from "../ui/parts";
import { StepText } from "./StepText";
import type { Beam } from "./useBeam";

export function Trajectory({ beam, candidate, isPlain }: { beam: Beam; candidate: number; isPlain: boolean }): VNode {
  const { grid, choose } = beam;
  const { candidates, teachers, answers } = grid.problem;
  const answer = answers.find((one) => one.candidate === candidate);
  return (
    <ol class="trajectory">
      {grid.path(candidate).map((index) => {
        const teacher = candidates.teacher[index] ?? 0;
        return (
          <li key={index}>
            <button type="button" class="trajectory-head" onClick={() => choose(index)}>
              <span class="trajectory-step">{candidates.depth[index]}</span>
              <Mark teacher={teacher} />
              <Name text={teachers[teacher] ?? ""} most={40} />
              <span class="trajectory-score">
                {score(candidates.score[index])} <span class="soft">{gain(candidates.gain[index])}</span>
              </span>
            </button>
            <WhenNear>
              <StepText grid={grid} candidate={index} isPlain={isPlain} />
            </WhenNear>
          </li>
        );
      })}
      {answer?.text != null && (
        <li>
          <div class="trajectory-head">
            <span class="trajectory-step">→</span> Final answer <Correct value={answer.correct} />
          </div>
          <ModelText text={answer.text} plain={isPlain} />
        </li>
      )}
    </ol>
  );
}

function WhenNear({ children }: { children: ComponentChildren }): VNode {
  const container = useRef<HTMLDivElement>(null);
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    const element = container.current;
    if (element === null || isNear) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) setNear(true);
      },
      { rootMargin: "400px" },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [isNear]);
  return (
    <div ref={container} class={isNear ? "near" : "far"}>
      {isNear && children}
    </div>
  );
}
