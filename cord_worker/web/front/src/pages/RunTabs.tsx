/** The head of a run's pages: its name, its state, and links to its pages. */
import type { VNode } from "preact";
import { useData } from "../data/context";
import type { RunSummary } from "../data/documents";
import { nameOf } from "../data/paths";
import { address } from "../route";
import { Name } from "../text/ModelText";
import { PauseReason, State } from "../ui/parts";

export function RunTabs({ run, about, page }: { run: string; about: RunSummary | null; page: "run" | "problems" }): VNode {
  const { site } = useData();
  const here = (at: string): { "aria-current"?: "page" } => (at === page ? { "aria-current": "page" } : {});
  return (
    <div class="page-head">
      <h1>
        <Name text={nameOf(run)} most={60} />
      </h1>
      {about !== null && <State state={about.state} />}
      {about !== null && <PauseReason reason={about.pause_reason} />}
      <nav class="tabs" aria-label="Parts of the run">
        <a href={address.run(run)} {...here("run")}>
          Overview
        </a>
        <a href={address.problems(run)} {...here("problems")}>
          Problems
        </a>
        {site.has_comparisons && <a href={address.compare(run, null)}>Compare</a>}
      </nav>
    </div>
  );
}
