"""Final answers in boxes."""

from __future__ import annotations

import pytest

from tests.support.final_answers import assert_only_answer

MEANT = [
    ("<answer>\\boxed{41}</answer>", "41"),
    ("Thus $\\boxed{41}$.", "41"),
    ("\\boxed{41}", "41"),
    ("\\fbox{41}", "41"),
    ("\\[\\boxed{41}\\]", "41"),
    ("$\\boxed {41}$", "41"),
    ("$\\boxed 9$", "9"),
    ("\\\\boxed{41}", "41"),
    ("\\boxed{\\boxed{41}}", "41"),
    ("\\boxed{n = \\boxed{41}}", "41"),
    ("\\boxed{\\text{The answer is } 41}", "41"),
    ("\\boxed{\\text{Answer: } 41}", "41"),
    ("\\boxed{41} and then we would also \\boxed{42", "41"),
    ("Put the result in \\boxed{}.\n\nThe final answer is 41.", "41"),
    ("You asked me to write it as \\boxed{answer}. So: \\boxed{41}", "41"),
    ("The roots are $\\boxed{2}$ and $\\boxed{9}$.", "2, 9"),
    ("$\\boxed{2}, \\boxed{9}$", "2, 9"),
    ("$x=\\boxed{2}$ or $x=\\boxed{9}$", "2, 9"),
    ("**Final Answer**\n\\[ \\boxed{41} \\]", "41"),
    ("### Final Answer\n\nThe number of marbles is $\\boxed{41}$.", "41"),
    ("The answer is $\\boxed{41}$. Let me know if you have questions!", "41"),
    ("\\boxed{41}\n\nSo the answer is \\boxed{41}.", "41"),
    ("There are \\boxed{41} marbles, so the answer is 41.", "41"),
    ("$x = -\\boxed{41}$", "-41"),
    ("Everything cancels, leaving $\\boxed{\\frac{3}{8}}$ of the pie.", "\\frac{3}{8}"),
    ("\\boxed{41}<|im_end|>\n<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n\\boxed{4}", "41"),
    ("<think>\\boxed{3}</think>\\boxed{41}", "41"),
    ("\\boxed{40}\n\nWait, I made a mistake. \\boxed{41}", "41"),
    ("\\boxed{40}\n\nHmm, let me recheck: 20 + 21 = 41. So the answer is \\boxed{41}.", "41"),
    ("\\boxed{40} is tempting, but it ignores the last marble.\n\n**Answer: 41**", "41"),
    ("\\boxed{41}\n\nVerification: 41 - 21 = 20, which matches.", "41"),
    (
        "## Step 1: Count the red ones\nThere are 20.\n\n## Step 2: Add\n20 + 21 = "
        "41\n\nThe final answer is: $\\boxed{41}$",
        "41",
    ),
    ("So the answer is $\\boxed{41}$.\n\nFinal Answer: The final answer is $\\boxed{41}$", "41"),
    ("**Final Answer: $\\boxed{41}$**", "41"),
    ("**The final answer is $\\boxed{41}$**", "41"),
    ("$$\\boxed{41}$$\n\n**Answer:** 41 marbles", "41"),
    ("Thus, the final answer is \\( \\boxed{\\dfrac{3}{8}} \\).", "3/8"),
    ("\\boxed{40}\n\nOops, 20 + 21 is 41.", "41"),
    ("\\boxed{40}. Let me double check. 19 + 21 = 40. Good.", "40"),
    ("\\boxed{40}. I think this is correct.", "40"),
    ("The value is \\boxed{41}.\n\nAnswer: B", "41"),
    ("yielding $\\boxed{41}$ as the final answer.", "41"),
    ("### Answer:\n$\\boxed{41}$", "41"),
    ("The answer is \\boxed{41} \\text{ cm}.", "41"),
    ("The answer is \\boxed{41}\\%.", "41%"),
    ("\\boxed{41\\%}", "41%"),
    ("\\boxed{\\$41}", "41"),
    ("\\boxed{x=41}", "41"),
    ("\\boxed{41}^\\circ", "41"),
    ("$\\boxed{41}\\text{ cm}^2$", "41"),
    ("\\boxed{ 41 }", "41"),
    ("\\boxed{41.}", "41"),
    ("<answer>\n\\boxed{41}\n</answer>\n", "41"),
    (
        "Okay, so I need to find the number of marbles. Let me think. 20 red, 21 blue. "
        "Is the answer 40? Hmm, 20 + 21. That's 41. Wait, are there others? No. So it's "
        "41.\n\n**Final Answer**\n\\boxed{41}",
        "41",
    ),
    (
        "\\boxed{40}\n\nWait, that double counts a marble. Let me recount: 20 + 19 = 39.\n\n\\boxed{39}",
        "39",
    ),
    (
        "\\boxed{40}\n\nHowever, the problem asks for half of it, so the final answer is \\boxed{20}.",
        "20",
    ),
    ("$a = \\boxed{40}$ and $b = \\boxed{12}$", "40, 12"),
    ("$x = \\boxed{41}$", "41"),
    ("$20+21=\\boxed{41}$", "41"),
    ("$7^{30} \\equiv \\boxed{41} \\pmod{43}.$", "41"),
    ("$x \\equiv \\boxed{41} (\\bmod 43)$", "41"),
    ("\\boxed{41} units", "41"),
    ("$y_1 = \\boxed{41}$", "41"),
    ("$\\text{Total} = \\boxed{41}$", "41"),
    ("$$\\begin{aligned} a &= 20+21 \\\\ &= \\boxed{41} \\end{aligned}$$", "41"),
    ("$\\therefore \\boxed{41}$", "41"),
    ("\\[ \\textcolor{red}{\\boxed{41}} \\]", "41"),
    ("$\\color{blue}{\\boxed{41}}$", "41"),
    ("\\[ \\boxed{41} \\tag{1} \\]", "41"),
    ("{\\large \\boxed{41}}", "41"),
    ("$n \\in \\boxed{\\{3, 4\\}}$", "\\{3,4\\}"),
    ("$x = \\boxed{41}, \\quad y = 7$", "41"),
    ("The sum is $\\boxed{41}$ marbles.", "41"),
    ("$\\frac{1}{\\boxed{41}}$", "\\frac{1}{41}"),
    ("$(\\boxed{3}, \\boxed{4})$", "(3,4)"),
    ("$3^{\\boxed{4}}$", "81"),
    ("$40 + \\boxed{1}$", "41"),
    ("\\boxed{41}^\\circ", "41^\\circ"),
]


@pytest.mark.parametrize(("text", "answer"), MEANT)
def test_the_answer_in_the_box_is_found(text: str, answer: str) -> None:
    assert_only_answer(text, answer)
