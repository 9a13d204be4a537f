"""Tags of chat templates: in text from outside, they must not open or close a turn."""

from __future__ import annotations

import re

TURN_TAG = re.compile(
    r"<\|[A-Za-z_][\w ]{0,30}\|>|<｜[^｜<>]{1,30}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]"
)
"""Tags with which templates of the known families begin and end turns."""
CHAT_TAG = re.compile(
    rf"{TURN_TAG.pattern}|</?(?:think|s|tool_call|tool_response|seed:\w{{1,30}})>|<(?:bos|eos|unk|pad|sop|eop|mask)>"
    r"|\[/?THINK\]|\[[gs]?MASK\]"
)
"""The tags above, those of thinking and tools, and the names that tokenizers give their special tokens."""
