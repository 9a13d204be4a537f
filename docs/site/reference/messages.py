"""The page of messages: what the broker carries, from the code that sends and reads them."""

from __future__ import annotations

import json

from cord_worker.coordination.broker.incoming_messages import MAX_BYTES, TaskMessage
from cord_worker.coordination.messaging.messenger import COORDINATOR_QUEUE, urgency_of
from cord_worker.coordination.messaging.routing import model_queue
from cord_worker.store.schema import kinds
from docs.site.reference import markdown

_EXAMPLE = TaskMessage(
    task=f"cord.{kinds.ADVANCE}",
    id="6f0c3f0e-8f0b-4f5f-9d0e-0a4d7b1c2e3f",
    problem_id=12,
    step=3,
    sent_at=1772373731.512,
    origin="coordinator@gpu-1",
)
_TO_COORDINATORS = {
    kinds.ADVANCE: "take the decision of this step of this problem, if it is due",
    kinds.VERIFY: "check the final answers of this problem that wait for it",
}
_TO_MODELS = {
    "propose": "propose the waiting candidates of this step",
    "score": "score its proposed candidates",
    "judge_candidate": "give their selection judgments",
    "answer": "write the final answers that the problem waits for",
    "judge_answer": "give the answer judgments that it waits for",
    "rescore": "score stored candidates of the problem for a rescoring",
}


def page() -> str:
    """The page."""
    introduction = (
        "What the service sends through the broker. A message is a Celery task (protocol 2, JSON) that names a problem "
        "and a step, and nothing else: the work itself is in the tables. [Architecture](../architecture.md) says what "
        "happens to a message, and [errors](../errors-and-exit-codes.md#brokers) which brokers there are."
    )
    model = markdown.code(model_queue("FINGERPRINT", 0).replace(".0", ".SHARD"))
    rows = [
        (markdown.code(f"cord.{name}"), markdown.code(COORDINATOR_QUEUE), str(urgency_of(name)), said)
        for name, said in _TO_COORDINATORS.items()
    ]
    rows += [
        (
            markdown.code(f"cord.{kind.name}"),
            model,
            str(urgency_of(kind.name)),
            _TO_MODELS[kind.name],
        )
        for kind in kinds.served_by_models()
    ]
    return "\n".join(
        [
            markdown.head("Messages", introduction),
            "## Tasks and queues\n",
            "FINGERPRINT is that of the model (`models.fingerprint`), and SHARD the number of a replica, from 0. With "
            "RabbitMQ\nthe name of every queue begins with `CORD_KEY_PREFIX`; with Redis every key does. 0 is the most "
            "urgent.\n",
            markdown.table(("task", "queue", "urgency", "asks to"), rows),
            "## Body\n",
            "The arguments are the key of the problem in the table `problems` and the step:\n",
            f"```json\n{json.dumps(json.loads(_EXAMPLE.body()))}\n```\n",
            "## Headers\n",
            f"```json\n{json.dumps(_EXAMPLE.headers(), indent=2)}\n```\n",
            markdown.paragraph(
                "`cord_sent_at` is the time of sending, in seconds since the epoch. A receiver reads the task, the id, "
                "the two arguments, `cord_sent_at` and `origin`, and rebuilds the message from them. A message that "
                f"has other arguments, is compressed, is not JSON or has more than {MAX_BYTES:,} bytes is dropped, "
                "logged and counted in `cord_bad_messages_total`."
            )
            + "\n",
        ]
    )
