"""Watching a text for its end while its tokens come, with little to do for each of them."""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.engines.protocol import Ids
from cord_worker.engines.text_codec import TextCodec
from cord_worker.prompting.segmentation import Ends


class EndWatch:
    """Tells at which token one generation is over; `after` are the last tokens of its prompt."""

    def __init__(self, codec: TextCodec, ends: Ends, after: Ids) -> None:
        self._codec = codec
        self._ends = ends
        self._after = after

    def is_over(self, generated: Sequence[int]) -> bool:
        """Whether an end has been seen with the last of the `generated` tokens; call it for every one."""
        if not self._ends.may_complete(self._codec.token_text(generated[-1])):
            return False
        window = self._codec.decode(generated[-self._ends.longest :])  # a token is at least a byte
        return self._ends.glimpsed(window) and self._ends.find(self.text(generated)) is not None

    def text(self, generated: Sequence[int]) -> str:
        """What the tokens read as after the prompt."""
        return self._codec.decode(generated, after=self._after)
