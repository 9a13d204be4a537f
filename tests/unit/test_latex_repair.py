"""Which text is LaTeX that lost its backslash, and which is a line break or a tab."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.latex_repair import COMMANDS, Meaning, escaped_reply, lost_backslashes, with_backslashes

CONTROL = {"a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}


def damaged(text: str) -> str:
    """`text` as it is read if its backslashes were not escaped: in JSON, or in a program's text for \\a and \\v."""
    for letter, control in CONTROL.items():
        text = text.replace(f"\\{letter}", control)
    return text


def repaired(text: str) -> str:
    """`text` with the certain commands restored."""
    (spots,) = lost_backslashes([text])
    return with_backslashes(text, [spot for spot in spots if spot.meaning is Meaning.COMMAND])


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_value_that_is_one_command_is_restored(command: str) -> None:
    assert repaired(damaged(f"\\{command}")) == f"\\{command}"
    assert repaired(damaged(f"\\{command}{{x}}")) == f"\\{command}{{x}}"


@pytest.mark.parametrize(
    "text",
    [
        r"\frac{3}{7} \to 0",
        r"x \neq y",
        r"2\theta + \rho",
        r"A^\top A",
        r"$p \ne q$",
        r"$a \to b$",
        r"\forall x \ni y",
        r"\vec{v} \times \nabla f",
        r"\left( 1 \right)".replace(r"\left", "("),
        r"h_\nu",
        r"\begin{cases} 1 \end{cases}".replace(r"\end", "|end"),
        r"\tan(x)",
        r"Solve x \ne 2",
        r"as x \to 0",
        r"sin x = 2 \tan x",
        r"F = q\nu, what is \nu?",
        r"Is y\to 1 and p\ne q?",
        r"e^{-s/\tau}",
        r"|1\rangle is (\rho)",
        r"y = 3\tan t",
        r"mass \rho of oil",
        r"(\neg q)",
        r"{\rm kg}",
        r"y\rfloor",
        r"M=\rho W",
        r"q\nmid r",
        r"B\ni y",
        r"7\tau",
        r"f: X\to Y",
        r"\bcancel{x}",
        r"\bmatrix",
        r"\fracxy",
        r"3\bfoo",
    ],
)
def test_commands_inside_a_text_are_restored(text: str) -> None:
    assert repaired(damaged(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "One.\nTwo.\n\nThree:\n\tfour",
        "Under what condition\nu is positive",
        "We know\ne = 2.718 and\ni = 1",
        "name\tage\tno\nAnn\t7\tof",
        "col\tan\to\top\text",
        "\tan apple a day",
        "Not so\nnot at all\nexists\nless\nparallel\nmid",
        "see\neq. (3)",
        "first\r\neq",
        "first\r\nu",
        "$$\ne^{x} = 1\n$$",
        "f(x) = \\pi\nu = 3",
        "page\x0cNext page",
        "pane \ne vino",
        "a b c\nu v w",
        "\ttabbed text\n\tboth",
        "Cost: $5\tan orange\tcosts $6",
        "1\tan orange\n2\tau revoir",
        "n\to\tk",
        "k = 4\nu = 5\ne = 6",
        "Let x be real.\nu and v are vectors",
        "p q r s\ne f g h",
        "Name it x\nu(0) = 1 holds",
    ],
)
def test_line_breaks_and_tabs_before_words_are_left_unchanged(text: str) -> None:
    assert lost_backslashes([text]) == [[]]


def test_in_a_damaged_row_a_doubtful_line_break_is_not_decided() -> None:
    (spots,) = lost_backslashes([damaged(r"\frac{1}{2}.") + "\nu is positive"])
    assert [(spot.command, spot.meaning) for spot in spots] == [("frac", Meaning.COMMAND), ("nu", Meaning.EITHER)]


def test_the_texts_of_a_row_are_judged_together() -> None:
    unclear = "Under it\nu holds."
    assert [len(spots) for spots in lost_backslashes([unclear, "1"])] == [0, 0]
    assert [len(spots) for spots in lost_backslashes([unclear, "\x0crac{1}{2}"])] == [1, 1]
    assert [len(spots) for spots in lost_backslashes([unclear + " \\pi", "\x0crac{1}{2}"])] == [0, 1]


@pytest.mark.parametrize("text", ["so $x \ne y$", "\rho", "\text{yes}", "is $\tan x$"])
def test_a_clear_case_counts_whatever_the_row_escapes_elsewhere(text: str) -> None:
    for elsewhere in ("$\\frac{m}{V}$", "1"):
        assert [len(spots) for spots in lost_backslashes([elsewhere, text])] == [0, 1]


_COMMON = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
frac dfrac tfrac binom sqrt sum prod int lim sin cos tan log ln exp times div cdot pm leq geq neq ne approx to
rightarrow Rightarrow infty partial nabla forall exists in notin ni subset cup cap emptyset angle triangle perp
parallel mid nmid not neg land lor left right langle rangle lfloor rfloor text textbf mathbb mathrm boxed bar hat
vec tilde overline underline underbrace begin end quad ldots because therefore bmod bot bullet boldsymbol flat
uparrow upsilon big bigl beth nexists tanh rm tag root rule
"""
COMMON = _COMMON.split()


@pytest.mark.parametrize("around", ["%s", "We have \\%s{x}.", "so $\\%s$ is", "a \\%s b", "f(\\%s x)"])
def test_no_common_command_is_lost_in_a_reply_that_does_not_escape(around: str) -> None:
    for command in COMMON:
        text = around % command if "\\" in around else f"\\{command}"
        assert json.loads(escaped_reply(f'{{"step": "{text}"}}')) == {"step": text}


@pytest.mark.parametrize(
    "text",
    [
        "First.\nThen.",
        "Let\nu = x^2",
        "so:\ni = 1",
        "a\tb",
        "one\r\ntwo",
        "\\frac{1}{2} and \\nu.\nu = 3",
        "\\\\ \\nabla",
    ],
)
def test_a_reply_that_escapes_is_left_as_it_is(text: str) -> None:
    reply = json.dumps({"step": text})
    assert escaped_reply(reply) == reply


@given(st.text())
def test_any_json_stays_json(text: str) -> None:
    json.loads(escaped_reply(json.dumps({"step": text})))
    (spots,) = lost_backslashes([text])
    assert len(with_backslashes(text, spots)) >= len(text)
