"""Tags of chat templates in text from outside, which must not open or close a turn."""

from __future__ import annotations

import re

TURN_TAG = re.compile(
    r"<\|[A-Za-z_][\w ]{0,30}\|>|<｜[^｜<>]{1,30}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]"
)
"""What templates of the known families begin and end turns with."""
CHAT_TAG = re.compile(rf"{TURN_TAG.pattern}|</?think>")
"""These, and the tags of thinking."""
