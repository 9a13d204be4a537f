"""Detects the end of a text while its tokens arrive, cheaply per token."""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.engines.protocol import Ids
from cord_worker.engines.text_codec import TextCodec
from cord_worker.prompting.segmentation import Ends


class EndWatch:
    """Detects the token that ends one generation; `after` are the last tokens of its prompt."""

    def __init__(self, codec: TextCodec, ends: Ends, after: Ids) -> None:
        self._codec = codec
        self._ends = ends
        self._after = after

    def is_over(self, generated: Sequence[int]) -> bool:
        """True if the last of the `generated` tokens completes an end; call it after every token."""
        if not self._ends.may_complete(self._codec.token_text(generated[-1])):
            return False
        window = self._codec.decode(generated[-self._ends.longest :])  # each token has at least one byte
        return self._ends.may_be_in(window) and self._ends.find(self.text(generated)) is not None

    def text(self, generated: Sequence[int]) -> str:
        """The text of the tokens, as it reads after the prompt."""
        return self._codec.decode(generated, after=self._after)
