"""The prompts that the teacher and the prover got for one candidate, as messages before the chat template."""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.config import RunConfig
from cord_worker.operations.search_grid import SearchGrid
from cord_worker.prompting.first_turn import user_text
from cord_worker.prompting.integration import integration_prompt
from cord_worker.prompting.scoring import closing
from cord_worker.prompting.think_tags import USUAL_TAGS
from cord_worker.prompting.trajectory import Segmentation, proposal_pieces, scoring_pieces
from cord_worker.store.reports.search_trees import SearchTree, TreeCandidate
from cord_worker.store.runs.runs import RunRow, TeacherRow
from cord_worker.store.schema.tables import TeacherRole
from cord_worker.web.documents import PromptDocument, PromptMessage


def prompt_document(run: RunRow, teachers: Sequence[TeacherRow], grid: SearchGrid, index: int) -> PromptDocument | None:
    """The prompts of the candidate with this index; None if there is no such candidate. Raises ConfigError if this
    version cannot read the run's configuration."""
    tree = grid.search.tree
    if not 0 <= index < len(tree.candidates):
        return None
    config = RunConfig.from_stored(run.config)
    candidate = tree.candidates[index]
    (teacher,) = [row for row in teachers if row.name == candidate.teacher]
    (settings,) = [row for row in config.all_teachers if row.name == candidate.teacher]
    segmentation = Segmentation.of(config.search.segmentation, config.search.phrases)
    return PromptDocument(
        candidate=index,
        teacher=candidate.teacher,
        model=settings.model,
        seed=str(candidate.seed),
        max_tokens=candidate.max_tokens,
        date=run.prompt_date.isoformat(),
        sampling=teacher.sampling,
        teacher_messages=_teacher_messages(config, teacher, tree, candidate, segmentation),
        prover_messages=_prover_messages(config, tree, candidate, segmentation),
    )


def _teacher_messages(
    config: RunConfig, teacher: TeacherRow, tree: SearchTree, candidate: TreeCandidate, segmentation: Segmentation
) -> list[PromptMessage]:
    if teacher.role == TeacherRole.INTEGRATOR and config.integration is not None:
        merged = [_step_texts(tree, source) for source in _in_planned_order(tree, candidate.sources)]
        prompt = integration_prompt(config.integration.prompt, tree.question, merged, segmentation)
        return _first_turn(teacher.system_prompt, tree.passage, prompt)
    before = [] if candidate.parent is None else _step_texts(tree, candidate.parent)
    opened = USUAL_TAGS.opening + "".join(proposal_pieces(before, segmentation))
    return [*_first_turn(teacher.system_prompt, tree.passage, tree.question), PromptMessage("assistant", opened)]


def _prover_messages(
    config: RunConfig, tree: SearchTree, candidate: TreeCandidate, segmentation: Segmentation
) -> list[PromptMessage]:
    if not config.is_scored or candidate.text is None or candidate.score is None:
        return []
    prover = config.required_prover
    scored = closing(prover.scoring_template, tree.answer, full_stop=prover.score_full_stop)
    thinking = "".join(scoring_pieces(_step_texts(tree, candidate.lineage), segmentation))
    return [
        *_first_turn(config.prover_model.system_prompt, tree.passage, tree.question),
        PromptMessage("assistant", USUAL_TAGS.opening + thinking + scored.text[: scored.answer_start]),
        PromptMessage("answer", scored.text[scored.answer_start : scored.answer_end]),
    ]


def _first_turn(system: str | None, passage: str | None, question: str) -> list[PromptMessage]:
    """The first turn, as `prompting.first_turn` composes it."""
    head = [PromptMessage("system", system.strip())] if system and system.strip() else []
    return [*head, PromptMessage("user", user_text(question, passage))]


def _step_texts(tree: SearchTree, lineage: str) -> list[str]:
    """Texts of the steps of the trajectory that ends with the candidate that has this lineage."""
    by_lineage = {candidate.lineage: candidate for candidate in tree.candidates}
    texts: list[str] = []
    last: str | None = lineage
    while last is not None:
        texts.append(by_lineage[last].text or "")
        last = by_lineage[last].parent
    return texts[::-1]


def _in_planned_order(tree: SearchTree, sources: Sequence[str]) -> list[str]:
    """The lineages of the sources in the order in which they were planned, as the integrator reads them."""
    return [candidate.lineage for candidate in tree.candidates if candidate.lineage in set(sources)]
