"""The prompts that the models got for one candidate, as messages before a chat template."""

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


def prompt_document(
    run: RunRow, teachers: Sequence[TeacherRow], grid: SearchGrid, candidate: int
) -> PromptDocument | None:
    """The prompts of the candidate with this index; None if there is no such candidate. Raises ConfigError if this
    version cannot read the run's configuration."""
    tree = grid.search.tree
    if not 0 <= candidate < len(tree.candidates):
        return None
    config = RunConfig.from_stored(run.config)
    one = tree.candidates[candidate]
    (teacher,) = [row for row in teachers if row.name == one.teacher]
    (settings,) = [row for row in config.all_teachers if row.name == one.teacher]
    segmentation = Segmentation.of(config.search.segmentation, config.search.phrases)
    return PromptDocument(
        candidate=candidate,
        teacher=one.teacher,
        model=settings.model,
        seed=str(one.seed),
        max_tokens=one.max_tokens,
        date=run.prompt_date.isoformat(),
        sampling=teacher.sampling,
        teacher_messages=_teacher_messages(config, teacher, tree, one, segmentation),
        prover_messages=_prover_messages(config, tree, one, segmentation),
    )


def _teacher_messages(
    config: RunConfig, teacher: TeacherRow, tree: SearchTree, one: TreeCandidate, segmentation: Segmentation
) -> list[PromptMessage]:
    if teacher.role == TeacherRole.INTEGRATOR and config.integration is not None:
        merged = [_steps(tree, source) for source in _in_tree_order(tree, one.sources)]
        prompt = integration_prompt(config.integration.prompt, tree.question, merged, segmentation)
        return _turn(teacher.system_prompt, tree.passage, prompt)
    before = [] if one.parent is None else _steps(tree, one.parent)
    opened = USUAL_TAGS.opening + "".join(proposal_pieces(before, segmentation))
    return [*_turn(teacher.system_prompt, tree.passage, tree.question), PromptMessage("assistant", opened)]


def _prover_messages(
    config: RunConfig, tree: SearchTree, one: TreeCandidate, segmentation: Segmentation
) -> list[PromptMessage]:
    if not config.is_scored or one.text is None or one.score is None:
        return []
    prover = config.required_prover
    part = closing(prover.scoring_template, tree.answer, full_stop=prover.score_full_stop)
    thinking = "".join(scoring_pieces(_steps(tree, one.lineage), segmentation))
    return [
        *_turn(config.prover_model.system_prompt, tree.passage, tree.question),
        PromptMessage("assistant", USUAL_TAGS.opening + thinking + part.text[: part.answer_start]),
        PromptMessage("answer", part.text[part.answer_start : part.answer_end]),
    ]


def _turn(system: str | None, passage: str | None, question: str) -> list[PromptMessage]:
    """The first turn, as `prompting.first_turn` composes it."""
    head = [PromptMessage("system", system.strip())] if system and system.strip() else []
    return [*head, PromptMessage("user", user_text(question, passage))]


def _steps(tree: SearchTree, lineage: str) -> list[str]:
    """Texts of the trajectory that ends with this candidate."""
    by_lineage = {one.lineage: one for one in tree.candidates}
    texts: list[str] = []
    step: str | None = lineage
    while step is not None:
        texts.append(by_lineage[step].text or "")
        step = by_lineage[step].parent
    return texts[::-1]


def _in_tree_order(tree: SearchTree, sources: Sequence[str]) -> list[str]:
    """The integrator sees its sources in the order in which they were planned."""
    return [one.lineage for one in tree.candidates if one.lineage in set(sources)]
