"""Byte-level BPE tokenizers of the bundled models. Their vocabularies differ.

With each of them, decoding an encoded text gives the same text. A line feed is always its own token, so that encoding a
whole trajectory and encoding it step by step give the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_CONTEXT = 1024

# In the first rule, a space before a digit is its own token; in the others it is part of the digit's token. The third
# rule splits runs of marks, except of `#`, and the fourth begins a word at each capital letter.
DIGIT_ALONE = r"\n| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s"
DIGIT_WITH_SPACE = r"\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s"
MARKS_APART = r"\n|#+| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"
CAPITAL_STARTS_WORD = r"\n| ?\p{Lu}?\p{Ll}+| ?\p{L}| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s"


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """What distinguishes one model's tokenizer from another's: the size of its vocabulary, the rule that splits text
    (`pattern`), its special tokens and its chat template."""

    vocabulary: int
    pattern: str
    turn_markers: tuple[str, ...]
    end: str
    chat_template: str


def train_tokenizer(spec: TokenizerSpec, corpus: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learns merges from `corpus`; the same corpus gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(spec.pattern), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    # Offsets keep the space that a token includes, so that a reader of offsets sees the original text.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    special = dict.fromkeys(["<|pad|>", spec.end, *spec.turn_markers])
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary - 2,  # the two think tags are added afterwards
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in ("<think>", "</think>")])
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=spec.end,
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
        model_max_length=_CONTEXT,
    )
    fast.chat_template = spec.chat_template
    return fast
