/** Where the time and the tokens went, by model and kind of request. */
import type { VNode } from "preact";
import type { Cost } from "../data/documents";
import { count, percent, seconds, short, words } from "../numbers";
import { Name } from "../text/ModelText";
import { Card, Empty } from "../ui/parts";

export function CostTable({ cost }: { cost: Cost }): VNode {
  const all = cost.lines.reduce((sum, line) => sum + line.engine_seconds, 0) || 1;
  const lines = [...cost.lines].sort((a, b) => b.engine_seconds - a.engine_seconds);
  return (
    <Card
      title="Cost"
      wide
      note="Engine time: the time in which an engine worked on at least one such request. Request time: the sum over the requests, which overlap."
    >
      {lines.length === 0 ? (
        <Empty>No request has ended yet.</Empty>
      ) : (
        <div class="table-scroll" tabIndex={0}>
          <table class="plain">
            <thead>
              <tr>
                <th>Model</th>
                <th>Request</th>
                <th class="wide-bar">Engine time</th>
                <th class="number">Share</th>
                <th class="number">Request time</th>
                <th class="number">Requests</th>
                <th class="number">Prompt tokens</th>
                <th class="number">Cached</th>
                <th class="number">Generated</th>
              </tr>
            </thead>
            <tbody>
              {lines.map((line) => (
                <tr key={`${line.model} ${line.kind}`}>
                  <th scope="row">
                    <Name text={line.model} most={60} />
                  </th>
                  <td>{words(line.kind)}</td>
                  <td class="wide-bar">
                    <span class="bar-cell">
                      <span class="bar-track" aria-hidden="true">
                        <span style={{ width: `${(line.engine_seconds / all) * 100}%` }} />
                      </span>
                      <span class="bar-value">{seconds(line.engine_seconds)}</span>
                    </span>
                  </td>
                  <td class="number">{percent(line.engine_seconds / all, 0)}</td>
                  <td class="number">{seconds(line.request_seconds)}</td>
                  <td class="number">{count(line.requests)}</td>
                  <td class="number">{short(line.prompt_tokens)}</td>
                  <td class="number">
                    {line.prompt_tokens === 0 ? "–" : percent(line.cached_tokens / line.prompt_tokens, 0)}
                  </td>
                  <td class="number">{short(line.completion_tokens)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
