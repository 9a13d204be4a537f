/** Where the time, the tokens and the money went: by model, and by kind of request. */
import type { VNode } from "preact";
import type { Cost, CostLine, ModelCost } from "../data/documents";
import { UNKNOWN, count, money, percent, seconds, short, words } from "../numbers";
import { Name } from "../text/ModelText";
import { visible } from "../text/visible";
import { Card, Empty } from "../ui/parts";

const NOTE =
  "Engine time: the time in which an engine worked on at least one such request. Kinds overlap, so that of a model may be less than the sum of its kinds. Time each: the mean duration of a request, waiting in the engine included.";
const PRICED = " Cost: with the prices stored with the run, as cordctl cost shows it.";
const UNPRICED = " The run has no prices: cordctl cost RUN --prices FILE computes its cost in money.";

export function CostTable({ cost }: { cost: Cost }): VNode {
  const { currency } = cost;
  const models = [...cost.models].sort((a, b) => b.worker_seconds - a.worker_seconds);
  const all = totalOf(models);
  return (
    <Card title="Cost" wide note={NOTE + (currency === null ? UNPRICED : PRICED)}>
      {models.length === 0 ? (
        <Empty>No request has ended yet.</Empty>
      ) : (
        <div class="table-scroll" tabIndex={0}>
          <table class="plain cost">
            <thead>
              <tr>
                <th>Model</th>
                <th>Request</th>
                <th class="wide-bar">Engine time</th>
                <th class="number wraps">Share of time</th>
                {currency !== null && (
                  <>
                    <th class="number">GPU hours</th>
                    <th class="number">Cost in {visible(currency)}</th>
                    <th class="number wraps">Share of cost</th>
                  </>
                )}
                <th class="number">Time each</th>
                <th class="number">Requests</th>
                <th class="number">Prompt tokens</th>
                <th class="number">Cached</th>
                <th class="number">Generated</th>
              </tr>
            </thead>
            <tbody>
              {models.map((model) => {
                const lines = cost.lines.filter((line) => line.model === model.model);
                const own = [...lines].sort((a, b) => b.engine_seconds - a.engine_seconds);
                return [
                  <TotalRow key={model.model} total={model} lines={lines} all={all} currency={currency} />,
                  ...(own.length > 1 ? own : []).map((line) => (
                    <LineRow key={`${line.model} ${line.kind}`} line={line} all={all} currency={currency} />
                  )),
                ];
              })}
              {models.length > 1 && <TotalRow total={all} lines={cost.lines} all={all} currency={currency} />}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}

interface RowProps {
  readonly all: ModelCost;
  readonly currency: string | null;
}

/** A model, or all of them; `lines` are its kinds of request. */
function TotalRow({ total, lines, all, currency }: RowProps & { total: ModelCost; lines: readonly CostLine[] }): VNode {
  const kinds = new Set(lines.map((line) => line.kind));
  return (
    <tr class="total">
      <th scope="row">{total === all ? "All models" : <Name text={total.model} most={60} />}</th>
      <td>{kinds.size === 1 ? words([...kinds].join()) : "all"}</td>
      <TimeCells seconds={total.worker_seconds} all={all} hasShare />
      {currency !== null && (
        <>
          <td class="number">{total.gpu_hours === null ? UNKNOWN : total.gpu_hours.toFixed(3)}</td>
          <td class="number">{money(total.money)}</td>
          <td class="number">{all.money ? percent((total.money ?? 0) / all.money) : UNKNOWN}</td>
        </>
      )}
      <TokenCells line={total} seconds={requestSeconds(lines)} />
    </tr>
  );
}

/** One kind of request of a model. Money is known of the whole model only, because kinds share its time. */
function LineRow({ line, all, currency }: RowProps & { line: CostLine }): VNode {
  return (
    <tr>
      <th scope="row">
        <span class="hidden">
          <Name text={line.model} most={60} />
        </span>
      </th>
      <td>{words(line.kind)}</td>
      <TimeCells seconds={line.engine_seconds} all={all} />
      {currency !== null && <td colSpan={3} />}
      <TokenCells line={line} seconds={line.request_seconds} />
    </tr>
  );
}

function TimeCells(props: { seconds: number; all: ModelCost; hasShare?: boolean }): VNode {
  const share = props.seconds / (props.all.worker_seconds || 1);
  return (
    <>
      <td class="wide-bar">
        <span class="bar-cell">
          <span class="bar-track" aria-hidden="true">
            <span style={{ width: `${Math.min(share, 1) * 100}%` }} />
          </span>
          <span class="bar-value">{seconds(props.seconds)}</span>
        </span>
      </td>
      <td class="number">{props.hasShare === true ? percent(share) : ""}</td>
    </>
  );
}

type Tokens = Pick<CostLine, "requests" | "prompt_tokens" | "cached_tokens" | "completion_tokens">;

function TokenCells({ line, seconds: duration }: { line: Tokens; seconds: number }): VNode {
  return (
    <>
      <td class="number">{seconds(line.requests === 0 ? null : duration / line.requests)}</td>
      <td class="number">{count(line.requests)}</td>
      <td class="number">{short(line.prompt_tokens)}</td>
      <td class="number">{line.prompt_tokens === 0 ? UNKNOWN : percent(line.cached_tokens / line.prompt_tokens, 0)}</td>
      <td class="number">{short(line.completion_tokens)}</td>
    </>
  );
}

function requestSeconds(lines: readonly CostLine[]): number {
  return lines.reduce((sum, line) => sum + line.request_seconds, 0);
}

/** What the models add up to. A figure that no model has is not known. */
function totalOf(models: readonly ModelCost[]): ModelCost {
  const sum = (value: (model: ModelCost) => number): number => models.reduce((total, model) => total + value(model), 0);
  const known = (values: readonly (number | null)[]): number | null =>
    values.every((value) => value === null) ? null : values.reduce<number>((total, value) => total + (value ?? 0), 0);
  return {
    model: "",
    requests: sum((model) => model.requests),
    prompt_tokens: sum((model) => model.prompt_tokens),
    cached_tokens: sum((model) => model.cached_tokens),
    completion_tokens: sum((model) => model.completion_tokens),
    worker_seconds: sum((model) => model.worker_seconds),
    gpu_hours: known(models.map((model) => model.gpu_hours)),
    money: known(models.map((model) => model.money)),
  };
}
