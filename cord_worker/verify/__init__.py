"""Checking generated answers against references, in processes that can be killed."""

from __future__ import annotations

from cord_worker.verify.checker import AnswerChecker
from cord_worker.verify.comparison import compare
from cord_worker.verify.rule import Method, Rule, rule_of
from cord_worker.verify.verdict import Verdict

__all__ = ["AnswerChecker", "Method", "Rule", "Verdict", "compare", "rule_of"]
