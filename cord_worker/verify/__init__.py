"""Checks generated answers against references, in processes that can be killed."""

from __future__ import annotations

from cord_worker.verify.check_result import CheckResult
from cord_worker.verify.checker import AnswerChecker
from cord_worker.verify.comparison import compare
from cord_worker.verify.rule import Method, Rule, rule_of

__all__ = ["AnswerChecker", "CheckResult", "Method", "Rule", "compare", "rule_of"]
