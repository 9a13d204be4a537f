/** A candidate's prompts: what its teacher read to write it, and what the prover read to score it. */
import type { VNode } from "preact";
import { always, useDocument } from "../data/context";
import type { ProblemDocument, PromptDocument, PromptMessage } from "../data/documents";
import { paths, segmentOf } from "../data/paths";
import { count } from "../numbers";
import { ModelText, Name } from "../text/ModelText";
import { visible } from "../text/visible";
import { Waiting } from "../ui/parts";

export function Prompt({ problem, candidate }: { problem: ProblemDocument; candidate: number }): VNode {
  const path = paths.prompt(segmentOf(problem.run), problem.position, candidate);
  const { document: prompt, error, isMissing } = useDocument<PromptDocument>(path, always);
  if (prompt === null) return <Waiting error={error} isMissing={isMissing} />;
  const sampling = Object.entries(prompt.sampling)
    .map(([name, value]) => `${visible(name)} ${visible(String(value))}`)
    .join(", ");
  return (
    <div class="prompt">
      <dl class="more-facts">
        <div>
          <dt>Model</dt>
          <dd>
            <Name text={prompt.model} most={100} />
          </dd>
        </div>
        <div>
          <dt>Sampling</dt>
          <dd>{sampling === "" ? "–" : sampling}</dd>
        </div>
        <div>
          <dt>Seed</dt>
          <dd class="mono">{prompt.seed}</dd>
        </div>
        <div>
          <dt>Token limit</dt>
          <dd>{count(prompt.max_tokens)}</dd>
        </div>
        <div>
          <dt>Date for the template</dt>
          <dd>{prompt.date}</dd>
        </div>
      </dl>
      <p class="prompt-note">
        These are the messages, before the model's chat template puts its own markers (such as <code>&lt;|im_start|&gt;</code>) around
        them. A thinking that is not finished stands last and is continued. The tag <code>&lt;think&gt;</code> stands for the
        model's own.
      </p>
      <h3>Messages to the teacher</h3>
      <Messages messages={prompt.teacher_messages} />
      {prompt.prover_messages.length > 0 && (
        <>
          <h3>Messages to the prover</h3>
          <Messages messages={prompt.prover_messages} />
        </>
      )}
    </div>
  );
}

function Messages({ messages }: { messages: readonly PromptMessage[] }): VNode {
  return (
    <ol class="messages">
      {messages.map((message, index) => (
        <li key={index}>
          <span class="message-role">
            <Name text={message.role} most={40} />
          </span>
          <ModelText text={message.text} plain />
        </li>
      ))}
    </ol>
  );
}
