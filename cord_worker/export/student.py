"""The student, the model that is trained: its turns, tags and tokens. Only its tokenizer is read."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from cord_worker.config import ModelConfig
from cord_worker.engines.protocol import Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import load_server_tokenizer
from cord_worker.export.files import ExportError
from cord_worker.prompting.first_turn import DEFAULT_DATE, FirstTurn, TurnPiece
from cord_worker.prompting.trajectory import ANSWER_OPENING, Segmentation, proposal_pieces, scoring_pieces
from cord_worker.store.reports.results import Result


class Student:
    """Renders texts with the chat template of the model that is trained, and counts its tokens.

    A text from outside (question, passage, step, answer) that holds a control token of the model is refused, because a
    trainer cannot tell such a token from those of the template.
    """

    def __init__(self, path: str) -> None:
        """`path` is a model's folder or hub id; only its tokenizer is read. Raises ExportError and EngineLoadError."""
        tokenizer = load_server_tokenizer(EngineSettings.of(ModelConfig(path=path)))
        if tokenizer is None:
            raise ExportError(f"no tokenizer of {path!r} was found: give --student a model's folder or its hub id.")
        self._chat: Any = tokenizer.tokenizer
        self._codec = tokenizer.codec
        opening = list(self._chat("")["input_ids"])
        # A trainer encodes the prompt as ordinary text. If encoding adds the start token, the text must not hold it
        # too.
        self._start = str(self._chat.bos_token) if opening and opening[0] == self._chat.bos_token_id else ""

    def trajectory(
        self, result: Result, segmentation: Segmentation, today: datetime.date = DEFAULT_DATE
    ) -> tuple[str, str] | None:
        """Prompt and completion of a whole trajectory. The prompt is the first turn and the opening of the thinking;
        the completion is the steps, the closing and the final answer. None if there is no final answer or no step, or
        if a text holds control tokens."""
        answer = result.answer_text.strip()
        if not answer or not result.steps:
            return None
        first = self._turn(result.question, result.passage, today)
        steps = scoring_pieces([step.text for step in result.steps], segmentation)
        thinking = _alternating(steps, segmentation)
        completion = [*thinking, self._answer_opening, TurnPiece(answer, True)]
        if self._codec.breaks_out([*first.pieces, *completion]):
            return None
        return first.text.removeprefix(self._start), "".join(piece.text for piece in completion)

    def step(
        self,
        question: str,
        passage: str | None,
        earlier: Sequence[str],
        text: str,
        segmentation: Segmentation,
        today: datetime.date = DEFAULT_DATE,
        *,
        closes: bool,
    ) -> tuple[str, str] | None:
        """Prompt and completion of one step. The prompt is the first turn, the `earlier` steps and the opening of this
        step; the completion is its `text`, and the closing of the thinking if `closes`. None if a text holds control
        tokens."""
        first = self._turn(question, passage, today)
        prefix = _alternating(proposal_pieces(earlier, segmentation), segmentation)
        completion = [TurnPiece(text.rstrip() if closes else text, True)]
        completion += [self._answer_opening] if closes else []
        if self._codec.breaks_out([*first.pieces, *prefix, *completion]):
            return None
        prompt = first.text.removeprefix(self._start) + "".join(piece.text for piece in prefix)
        return prompt, "".join(piece.text for piece in completion)

    def plain_turn(self, question: str, passage: str | None, today: datetime.date = DEFAULT_DATE) -> str | None:
        """The first turn, ending where a plain reply begins. It has no start token, because trainers of reward models
        add it themselves. None if a text holds control tokens."""
        turn = Turn(question=question, passage=passage, date=today)
        first = self._codec.first_turn(turn, thinking=False)
        if self._codec.breaks_out(first.pieces):
            return None
        return first.text.removeprefix(str(self._chat.bos_token or ""))

    def holds_control_token(self, *texts: str) -> bool:
        """Whether one of the texts from outside holds a control token."""
        return any(self._codec.breaks_out([TurnPiece(text, True)]) for text in texts)

    def thinking_turn(self, user: str, today: datetime.date = DEFAULT_DATE) -> str:
        """The first turn with this text of the user, ending with the opening of the thinking."""
        return self._turn(user, None, today).text.removeprefix(self._start)

    def count(self, text: str) -> int:
        """Number of tokens of `text` as a trainer encodes it, with the end token that the trainer adds."""
        return len(self._chat(text)["input_ids"]) + 1

    @property
    def _answer_opening(self) -> TurnPiece:
        return TurnPiece(self._codec.tags.own(ANSWER_OPENING), False)

    def _turn(self, question: str, passage: str | None, today: datetime.date) -> FirstTurn:
        return self._codec.first_turn(Turn(question=question, passage=passage, date=today))


def _alternating(pieces: Sequence[str], segmentation: Segmentation) -> list[TurnPiece]:
    """The pieces of a trajectory. With markers, every other piece is a marker, beginning with the first; a marker is no
    content."""
    marked = segmentation.has_markers
    return [TurnPiece(text, is_content=not marked or index % 2 == 1) for index, text in enumerate(pieces)]
