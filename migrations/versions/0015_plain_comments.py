"""Comments on tables, columns and views in plainer English; no data is touched.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

TABLES = {
    "models": (
        "One set of weights; its queue is named by the fingerprint.",
        "One set of weights with its engine; the fingerprint names its queues.",
    ),
    "workers": (
        "One start of one process; its heartbeat is what its leases rest on.",
        "One start of one process; its leases are valid while its heartbeat continues.",
    ),
    "teachers": (
        "A model with sampling settings: what proposes steps.",
        "A model with sampling settings that writes steps and final answers, or merges trajectories.",
    ),
}
"""Old and new comment by table."""

COLUMNS = {
    ("models", "weights_digest"): (
        "Hash of the loaded files, set by the first worker; a worker with another one is refused.",
        "Hash of the loaded files, set by the first worker; a worker with another hash is refused.",
    ),
    ("models", "digest"): (
        "Digest of fingerprint and weights_digest, written with it; NULL in rows of older versions.",
        "Digest of fingerprint and weights_digest, written at the same time; NULL in rows of older versions.",
    ),
    ("models", "created_at"): (
        "When it was first named by a run.",
        "When a run or a worker first named it.",
    ),
    ("runs", "name"): (
        "What commands call it.",
        "Name of the run in commands.",
    ),
    ("runs", "priority"): (
        "Its problems begin before those of runs with a lower one that share a model with it.",
        "Problems of a run begin before those of lower-priority runs that share a model with it.",
    ),
    ("runs", "config_fingerprint"): (
        "Hash of everything in the configuration that decides what is generated.",
        "Hash of everything in the configuration that decides what is computed.",
    ),
    ("runs", "prover_model_id"): (
        "The model that scores its candidates; NULL where nothing is scored.",
        "The model that scores its candidates; NULL in a run without scores.",
    ),
    ("runs", "selection_model_id"): (
        "The model that gives selection judgments: the reward model, or the prover in binary judgment; NULL where "
        "the score selects.",
        "The model that gives selection judgments: the reward model, or the prover in binary judgment; NULL if the "
        "score selects.",
    ),
    ("runs", "judge_model_id"): (
        "The model that judges its final answers; NULL where they are compared.",
        "The model that judges its final answers; NULL if they are compared.",
    ),
    ("runs", "scoring_mode"): (
        "Numerical path of the scores; set by the first score, the same for all.",
        "Numerical path of the scores; set by the first score, the same for all scores of the run.",
    ),
    ("runs", "prompt_date"): (
        "What chat templates take for today, on every machine and however long the run takes.",
        "The date that chat templates use as today, on every machine and however long the run takes.",
    ),
    ("runs", "digest"): (
        "Digest of name, fingerprint, seed, date and version; a run with it has all digests, written with it; NULL "
        "in rows of older versions.",
        "Digest of name, fingerprint, seed, date and version (if set, all rows have digests), written at the same "
        "time; NULL in rows of older versions.",
    ),
    ("runs", "created_at"): (
        "When it was enqueued first.",
        "When it was first enqueued.",
    ),
    ("workers", "pid"): (
        "Process id there.",
        "Process id on that machine.",
    ),
    ("workers", "shard"): (
        "Which replica of its model it is, from 0; empty once it takes no more work.",
        "Number of the replica among those of its model, from 0; NULL once it takes no more work.",
    ),
    ("workers", "metrics_port"): (
        "Port of its Prometheus metrics there.",
        "Port of its Prometheus metrics on the machine.",
    ),
    ("workers", "heartbeat_at"): (
        "Last sign of life.",
        "Last heartbeat.",
    ),
    ("workers", "stopped_at"): (
        "When it left, or was found silent for too long.",
        "When it left, or was declared lost.",
    ),
    ("workers", "stop_reason"): (
        "shutdown, lost, or failed and why.",
        "shutdown, lost, or failed with the error.",
    ),
    ("workers", "condition_since"): (
        "Since when.",
        "Since when the condition holds.",
    ),
    ("workers", "steps_back_until"): (
        "Until when a coordinator whose decisions all failed takes none; NULL where that never happened.",
        "Until when this coordinator takes no decisions, because all of them failed; NULL if that never happened.",
    ),
    ("workers", "dropped_results"): (
        "Late or duplicate results that were not written.",
        "Late or duplicate results that were dropped.",
    ),
    ("problems", "passage"): (
        "Supporting passage for the teachers' prompt.",
        "Supporting text before the question, if any.",
    ),
    ("problems", "attributes"): (
        "The dataset row's other fields.",
        "The other fields of the dataset's row.",
    ),
    ("problems", "digest"): (
        "Digest of key, content_hash, attributes and position, written with it; NULL in rows of older versions.",
        "Digest of key, content_hash, attributes and position, written at the same time; NULL in rows of older "
        "versions.",
    ),
    ("problems", "step"): (
        "Step being decoded; 0 before the first.",
        "Present step; 0 before the first.",
    ),
    ("problems", "round"): (
        "Resampling round of that step; above 0 after an all-invalid step.",
        "Resampling round of that step; above 0 after rounds with only invalid candidates.",
    ),
    ("problems", "unproposed"): (
        "Candidates of the step without a text; with the last one the scores of all are asked for.",
        "Candidates of the step without a text; when it reaches 0, messages ask for the scores of the step.",
    ),
    ("problems", "decision_attempts"): (
        "Failures of the decision that is due, but for those of a coordinator that fails at every problem.",
        "Failures of the due decision; those of a coordinator that fails at every problem do not count.",
    ),
    ("problems", "decision_failed_by"): (
        "Coordinators that failed at the decision or passed it on; the others have their turn first.",
        "Coordinators that failed at the decision or passed it on; others try it first.",
    ),
    ("problems", "decision_error"): (
        "Why the decision failed last.",
        "Why the decision last failed.",
    ),
    ("problems", "decision_due_at"): (
        "When a decision that failed or was passed on is tried again; NULL where none was.",
        "When a decision that failed or was passed on is tried again; NULL if there is none.",
    ),
    ("teachers", "role"): (
        "teacher, or integrator (merges what the teachers wrote; comes last).",
        "teacher, or integrator (merges the teachers' trajectories; comes last).",
    ),
    ("teachers", "model_id"): (
        "The model behind it.",
        "Its model.",
    ),
    ("candidates", "teacher_id"): (
        "Who proposed it.",
        "The teacher that writes it.",
    ),
    ("candidates", "max_tokens"): (
        "Token cap of this step.",
        "Token limit of its text.",
    ),
    ("candidates", "whole"): (
        "Whether it is the rest of its trajectory, in one piece, instead of one step.",
        "True if it is the whole remaining trajectory rather than one step.",
    ),
    ("candidates", "sources"): (
        "Candidates whose trajectories an integrator merged into it; NULL for a teacher's.",
        "Candidates whose trajectories the integrator merged into it; NULL for a teacher's.",
    ),
    ("candidates", "text_key"): (
        "What equal texts share (whitespace normalised); NULL where it was invalid as proposed.",
        "Equal for equal texts (whitespace normalised); NULL if the text itself was invalid.",
    ),
    ("candidates", "duplicate_of"): (
        "The sibling whose text it repeats; that one alone is scored and stands for both. NULL if none.",
        "The sibling whose text it repeats; only that one is scored, for both. NULL if none.",
    ),
    ("candidates", "reply"): (
        "What the integrator wrote, as it wrote it.",
        "The integrator's whole reply, unchanged.",
    ),
    ("candidates", "answer_part"): (
        "The final answer that the integrator wrote with it.",
        "The final answer in the integrator's reply.",
    ),
    ("candidates", "finish_reason"): (
        "step (next marker), think_end, eos or length (token cap).",
        "Why the text ended: step (next marker), think_end, eos or length (token limit).",
    ),
    ("candidates", "invalid_reason"): (
        "Why it may not enter the beam: empty, whitespace, marker_only, loop, think_tag, unstorable, duplicate or "
        "malformed (its text), unscorable or unjudgeable, or why a model refused it: too_long, content_filter, "
        "not_finite, malformed_request or engine_fault.",
        "Why it may not enter the beam. Its text is empty, whitespace, marker_only, loop, think_tag, unstorable, "
        "duplicate or malformed; or it is unscorable or unjudgeable; or a model refused it: too_long, "
        "content_filter, not_finite, malformed_request or engine_fault.",
    ),
    ("candidates", "thinking_tokens"): (
        "Tokens of the trajectory so far, in the prover's tokenizer (the teacher's where nothing is scored).",
        "Tokens of the trajectory so far, in the prover's tokenizer (the teacher's in a run without scores).",
    ),
    ("candidates", "score_cached_tokens"): (
        "Of these, from the prover's prefix cache.",
        "Of these, tokens from the prover's prefix cache.",
    ),
    ("candidates", "judgment"): (
        "Step score of the reward model, or share of binary judgments that found the answer; 0 to 1.",
        "Step reward of the reward model, or share of right answers in a binary judgment; 0 to 1.",
    ),
    ("candidates", "judgment_detail"): (
        "What the judgment was made from.",
        "The parts of the judgment.",
    ),
    ("candidates", "judgment_prompt_tokens"): (
        "Judging model's prompt tokens.",
        "Selection model's prompt tokens.",
    ),
    ("candidates", "winning"): (
        "Whether the problem's result goes through this step.",
        "Whether it is on the winning path: a step of the problem's winner.",
    ),
    ("candidates", "proposal_digest"): (
        "Digest of the lineage and of what the teacher or integrator wrote, written with it; NULL in rows of older "
        "versions.",
        "Digest of the lineage and of the teacher's or integrator's result, written at the same time; NULL in rows "
        "of older versions.",
    ),
    ("candidates", "score_digest"): (
        "Digest of the lineage and of what the prover computed, written with it; NULL in rows of older versions.",
        "Digest of the lineage and of the prover's result, written at the same time; NULL in rows of older versions.",
    ),
    ("candidates", "judgment_digest"): (
        "Digest of the lineage and of what the judging model said, written with it; NULL in rows of older versions.",
        "Digest of the lineage and of the selection judgment, written at the same time; NULL in rows of older "
        "versions.",
    ),
    ("candidates", "judgment_seconds"): (
        "Seconds in the judging model's engine.",
        "Seconds in the selection model's engine.",
    ),
    ("trajectories", "score"): (
        "Score of its last step; NULL where nothing is scored.",
        "Score of its last step; NULL in a run without scores.",
    ),
    ("trajectories", "winner"): (
        "The problem's result; samples have none.",
        "Whether it is the problem's winner; a run of samples has none.",
    ),
    ("trajectories", "dropped_at_step"): (
        "Step at which better ones took its slot; NULL if it stayed.",
        "Step at which a better trajectory took its slot; NULL if it kept the slot.",
    ),
    ("trajectories", "answer_text"): (
        "What follows </think>.",
        "The text after </think>.",
    ),
    ("trajectories", "answer_finish_reason"): (
        "eos, length, or why it was refused: too_long, content_filter, not_finite, malformed_request or engine_fault.",
        "eos, length, or why a model refused it: too_long, content_filter, not_finite, malformed_request or "
        "engine_fault.",
    ),
    ("trajectories", "check_attempts"): (
        "Leases taken to compare it.",
        "Leases taken to check it.",
    ),
    ("trajectories", "check_worker_id"): (
        "Coordinator that compares or compared it.",
        "Coordinator that checks or checked it.",
    ),
    ("trajectories", "correct"): (
        "Whether the final answer equals the known one; NULL if not checked or undecided.",
        "Whether the final answer is right; NULL if not checked, or undecided.",
    ),
    ("trajectories", "answer_digest"): (
        "Digest of the final answer and of whose it is, written with it; NULL in rows of older versions.",
        "Digest of the final answer and of the identity of its trajectory, written at the same time; NULL in rows of "
        "older versions.",
    ),
    ("trajectories", "correctness_digest"): (
        "Digest of whether the answer is correct, how that was decided, and of whose answer it is, written with it; "
        "NULL in rows of older versions.",
        "Digest of whether the answer is correct, of how that was decided, and of the identity of its trajectory, "
        "written at the same time; NULL in rows of older versions.",
    ),
    ("trajectories", "created_at"): (
        "When it finished thinking.",
        "When its thinking ended.",
    ),
}
"""Old and new comment by table and column."""

VIEW_COLUMNS = {
    ("prefix_cache", "worker_id"): (
        "The replica.",
        "Id of the replica's process.",
    ),
    ("prefix_cache", "at_home"): (
        "Of these, of problems most of whose requests to this model it served.",
        "Of these, requests for problems of which it served most of the requests to this model.",
    ),
    ("run_costs", "cached_tokens"): (
        "Of these, taken from the prefix cache (not known of answers).",
        "Of these, taken from the prefix cache.",
    ),
    ("run_costs", "request_seconds"): (
        "Sum of what each request took; requests of one batch overlap.",
        "Sum of the durations of the requests; requests of one batch overlap.",
    ),
    ("run_costs", "engine_seconds"): (
        "Time in which the engines worked on at least one such request, replicas added up.",
        "Time in which the engines worked on at least one such request, summed over replicas.",
    ),
    ("teacher_selection", "tenth"): (
        "Tenth (1-10) of the decoding position: (step - 0.5) / steps of the winning trajectory, later ones in 10.",
        "Tenth (1-10) of the decoding position, (step - 0.5) / steps of the winning trajectory; later steps are in "
        "tenth 10.",
    ),
    ("teacher_selection", "kept"): (
        "Of these, kept in a beam, or equal to one that was.",
        "Of these, kept in a beam, or a duplicate of one that was.",
    ),
    ("teacher_selection", "on_winning_path"): (
        "Of these, on the winning trajectory, or equal to one that is.",
        "Of these, on the winning path, or a duplicate of one that is.",
    ),
    ("teacher_selection", "hit_rate"): (
        "Share of the winning steps in this tenth that this teacher wrote; a step that N proposals of it have in "
        "common counts 1/N for each of them. Adds up to 1 over the teachers.",
        "This teacher's share of the winning steps in this tenth. A step that N proposals have in common counts 1/N "
        "for each of them. The shares add up to 1 over the teachers.",
    ),
    ("teacher_selection", "mean_score"): (
        "Mean score of its candidates there; one that repeats a sibling has the score of that.",
        "Mean score of its candidates there; a duplicate has the score of its sibling.",
    ),
    ("teacher_selection", "tokens"): (
        "Tokens it generated there.",
        "Tokens that it generated there.",
    ),
}
"""Old and new comment by view and column."""


def upgrade() -> None:
    for table, (old, new) in TABLES.items():
        op.create_table_comment(table, new, existing_comment=old)
    for (table, column), (old, new) in COLUMNS.items():
        op.alter_column(table, column, comment=new, existing_comment=old)
    for (view, column), (_, new) in VIEW_COLUMNS.items():
        _comment_on_view(view, column, new)


def downgrade() -> None:
    for (view, column), (old, _) in VIEW_COLUMNS.items():
        _comment_on_view(view, column, old)
    for (table, column), (old, new) in COLUMNS.items():
        op.alter_column(table, column, comment=old, existing_comment=new)
    for table, (old, new) in TABLES.items():
        op.create_table_comment(table, old, existing_comment=new)


def _comment_on_view(view: str, column: str, comment: str) -> None:
    quoted = comment.replace("'", "''")
    op.execute(f"COMMENT ON COLUMN {view}.{column} IS '{quoted}'")
