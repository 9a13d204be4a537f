"""Encodes text to token ids and decodes it, for one model's tokenizer.

Text is canonical (docs/what-is-computed.md#text-is-canonical): a prompt is a list of pieces, each encoded alone and
always the same way, so that `ids(prefix + step) = ids(prefix) + ids(step)`.

Control tokens are recognised only in text that we or the chat template wrote. Text from outside (questions, steps,
answers) is encoded by a second tokenizer without them. transformers' `split_special_tokens` is not enough: `</think>`
and `<tool_call>` are added tokens that are not special, and they would still match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

from tokenizers import Tokenizer

from cord_worker.engines.protocol import Ids, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError
from cord_worker.prompting.first_turn import FirstTurn, TurnPiece, render_first_turn, require_template
from cord_worker.prompting.scoring import answer_positions, closing
from cord_worker.prompting.think_tags import ThinkTags, tags_of
from cord_worker.prompting.trajectory import ANSWER_OPENING, BOUNDARY, proposal_pieces, scoring_pieces

_MARKER = re.compile(rf"{re.escape(BOUNDARY)} \d+\.")
"""What separates the steps in a whole candidate."""
_PIECES_KEPT = 16_384
_TURNS_KEPT = 1_024


@dataclass(frozen=True, slots=True)
class EncodedClosing:
    """The closing part as token ids; `answer` are the indices of the scored tokens in `ids`: ascending, at least
    one."""

    ids: Ids
    answer: tuple[int, ...]


class TextCodec:
    """Encodes prompts and decodes generations. Any thread may call `decode` and `token_text`; one thread calls the
    rest."""

    def __init__(
        self, tokenizer: Any, *, tags: ThinkTags | None = None, template_options: Mapping[str, Any] | None = None
    ) -> None:
        """The `tags` are detected if none are given. Raises EngineLoadError if the tokenizer is not a fast one, or if
        its chat template cannot be used."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise EngineLoadError(
                f"tokenizer {type(tokenizer).__name__} is not a fast tokenizer; scores and safe encoding need one: "
                "convert it to tokenizer.json"
            )
        self._chat = tokenizer
        self._backend: Tokenizer = Tokenizer.from_str(backend.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._continuing, self._plain, control = _derived(self._backend)
        self._control = re.compile("|".join(re.escape(text) for text in control)) if control else None
        added = (str(token) for token in tokenizer.get_added_vocab())
        self.tags = tags or tags_of(template_text(tokenizer), added)
        self._template_options = template_options or {}
        require_template(tokenizer, tags=self.tags, options=self._template_options)
        self._token_texts: dict[int, str] = {}
        self._piece = lru_cache(_PIECES_KEPT)(self._encode_piece)
        self._turn = lru_cache(_TURNS_KEPT)(self._encode_thinking_turn)
        self._closing = lru_cache(_TURNS_KEPT)(self._encode_closing)

    @classmethod
    def of(cls, tokenizer: Any, settings: EngineSettings) -> Self:
        """The codec of the model of `settings`. Raises EngineLoadError, which names the model."""
        try:
            return cls(tokenizer, tags=settings.think_tags, template_options=settings.template_options)
        except EngineLoadError as error:
            raise EngineLoadError(f"model {settings.path!r}: {error}") from error

    def proposal(self, turn: Turn, steps: Sequence[str]) -> list[Ids]:
        """The pieces of the prompt that a teacher continues with the next step."""
        return _ready_to_continue(turn, self._joined(turn, proposal_pieces(steps, turn.segmentation)))

    def answer(self, turn: Turn, steps: Sequence[str], opening: str = ANSWER_OPENING) -> list[Ids]:
        """The pieces of the prompt that a teacher continues with the final answer."""
        ids = tuple(self._continuing.encode(self.tags.own(opening), add_special_tokens=False).ids)
        candidate = self._joined(turn, scoring_pieces(steps, turn.segmentation))
        return [*_ready_to_continue(turn, candidate), ids]

    @cached_property
    def answer_opening_tokens(self) -> int:
        """Tokens of the text that closes the thinking before a final answer."""
        return len(self._continuing.encode(self.tags.own(ANSWER_OPENING), add_special_tokens=False).ids)

    def reply(self, turn: Turn) -> list[Ids]:
        """The prompt of a reply: the turn alone."""
        return [self._encode_turn(turn, thinking=False)]

    def candidate(self, turn: Turn, steps: Sequence[str]) -> list[Ids]:
        """Pieces of a candidate as the prover reads it, without the closing part; without steps, the turn alone."""
        return self._joined(turn, scoring_pieces(steps, turn.segmentation) if steps else ())

    def judged_candidate(self, turn: Turn, steps: Sequence[str], separator: str | None) -> Ids:
        """A candidate as a reward model reads it: as the prover does, or as plain steps with `separator` after each."""
        if separator is None:
            return tuple(token for piece in self.candidate(turn, steps) for token in piece)
        mark = self._continuing.encode(separator, add_special_tokens=False).ids
        ids = list(self._encode_turn(turn, thinking=False))
        for text in (part for step in steps for part in _MARKER.split(step)):
            ids += [*self._encode_piece(text.strip()), *mark]
        return tuple(ids)

    def closing(self, template: str, answer: str, *, full_stop: bool = False) -> EncodedClosing:
        """The closing part, encoded as one piece; with `full_stop`, the text after the answer is scored too. Raises
        RequestError."""
        return self._closing(template, answer, full_stop)

    def decode(self, ids: Sequence[int], after: Sequence[int] = ()) -> str:
        """Text of `ids` as it reads after the tokens `after`; without `after`, some tokenizers drop a leading space."""
        if not after:
            return self._backend.decode(list(ids), skip_special_tokens=False)
        head = self._backend.decode(list(after), skip_special_tokens=False)
        text = self._backend.decode([*after, *ids], skip_special_tokens=False)
        return text[len(head) :] if text.startswith(head) else self.decode(ids)

    def token_text(self, token: int) -> str:
        """Text of one token alone; part of a character reads as U+FFFD."""
        known = self._token_texts.get(token)
        if known is None:
            known = self._token_texts[token] = self.decode([token])
        return known

    def _joined(self, turn: Turn, texts: Sequence[str]) -> list[Ids]:
        return [self._turn(turn), *(ids for ids in map(self._piece, texts) if ids)]

    def _encode_piece(self, text: str) -> Ids:
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def _encode_thinking_turn(self, turn: Turn) -> Ids:
        return self._encode_turn(turn, thinking=True)

    def _encode_turn(self, turn: Turn, *, thinking: bool) -> Ids:
        first = self.first_turn(turn, thinking=thinking)
        opening = () if first.is_templated else tuple(self._chat("", add_special_tokens=True)["input_ids"])
        if not self.breaks_out(first.pieces):
            return (*opening, *self._backend.encode(first.text, add_special_tokens=False).ids)
        ids: list[int] = []
        for index, piece in enumerate(first.pieces):
            trusted = self._backend if index == 0 else self._continuing
            encoder = self._plain if piece.is_content else trusted
            ids += encoder.encode(piece.text, add_special_tokens=False).ids
        return (*opening, *ids)

    def first_turn(self, turn: Turn, *, thinking: bool = True) -> FirstTurn:
        """The rendered turn, ready for the first step; if not `thinking`, for a plain reply. Raises RequestError."""
        return render_first_turn(
            self._chat,
            question=turn.question,
            system=turn.system,
            passage=turn.passage,
            thinking=thinking,
            today=turn.date,
            tags=self.tags,
            options=self._template_options,
        )

    def breaks_out(self, pieces: Sequence[TurnPiece]) -> bool:
        """True if text from outside holds, or completes, a control token."""
        if self._control is None:
            return False
        text = "".join(piece.text for piece in pieces)
        spans = [match.span() for match in self._control.finditer(text)]
        start = 0
        for piece in pieces:
            end = start + len(piece.text)
            if piece.is_content and any(left < end and right > start for left, right in spans):
                return True
            start = end
        return False

    def _encode_closing(self, template: str, answer: str, full_stop: bool) -> EncodedClosing:
        part = closing(self.tags.own(template), answer, full_stop=full_stop)
        if self._control is None or not self._control.search(answer):
            encoding = self._continuing.encode(part.text, add_special_tokens=False)
            positions = answer_positions(encoding.offsets, part.answer_start, part.answer_end)
            return EncodedClosing(tuple(encoding.ids), tuple(positions))
        answer_end = part.answer_start + len(answer)
        head, tail = part.text[: part.answer_start], part.text[answer_end:]
        encoded = [
            encoder.encode(text, add_special_tokens=False).ids
            for encoder, text in ((self._continuing, head), (self._plain, answer), (self._continuing, tail))
        ]
        start, end = len(encoded[0]), sum(map(len, encoded if full_stop else encoded[:2]))
        return EncodedClosing(tuple(token for part_ids in encoded for token in part_ids), tuple(range(start, end)))


def template_text(tokenizer: Any) -> str:
    """The tokenizer's chat template; all of them if it has several by name; empty if it has none."""
    template = getattr(tokenizer, "chat_template", None)
    return "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template or "")


def _ready_to_continue(turn: Turn, pieces: list[Ids]) -> list[Ids]:
    """The same ids, cut into pieces that the prefix cache finds again when the text is continued.

    The last token of a prompt is computed together with the text that follows, so the cache keeps the last piece
    without it. With markers the last piece is a marker. Without markers it is a step, which a longer prompt holds with
    its last token: another piece. So the last token of each piece becomes a piece of its own.
    """
    if turn.segmentation.has_markers:
        return pieces
    return [part for piece in pieces for part in (piece[:-1], piece[-1:]) if part]


def _derived(backend: Tokenizer) -> tuple[Tokenizer, Tokenizer, list[str]]:
    """A tokenizer for text that continues other text, the same one without control tokens, and the control tokens.

    Added tokens of whitespace or plain words are ordinary text and stay; GPT-NeoX encodes runs of spaces as such.
    """
    document = json.loads(backend.to_str())
    document["normalizer"] = _without_prepending(document.get("normalizer"), "normalizers")
    document["pre_tokenizer"] = _without_prepending(document.get("pre_tokenizer"), "pretokenizers")
    continuing = Tokenizer.from_str(json.dumps(document))
    added = document.get("added_tokens") or []
    control = [token for token in added if token["special"] or re.search(r"[<>|\[\]]", token["content"])]
    document["added_tokens"] = [token for token in added if token not in control]
    document["post_processor"] = None
    plain = Tokenizer.from_str(json.dumps(document))
    return continuing, plain, sorted((token["content"] for token in control), key=len, reverse=True)


def _without_prepending(node: Any, members: str) -> Any:
    """The tokenizer component without the space that SentencePiece models put before every text."""
    if node is None:
        return None
    if node["type"] == "Sequence":
        kept = [_without_prepending(member, members) for member in node[members]]
        return {**node, members: [member for member in kept if member is not None]}
    if node["type"] == "Prepend":
        return None
    if node["type"] == "Metaspace":
        return {**node, "prepend_scheme": "never"}
    return node
