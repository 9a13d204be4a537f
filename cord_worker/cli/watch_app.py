"""The screen of `cordctl watch`. It shows the run and asks the user; `operations.live_watch` reads and changes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from cord_worker.display_text import shown
from cord_worker.errors import CordError, DatabaseRefused, SchemaMismatch
from cord_worker.progress import live_panels
from cord_worker.progress.live_state import LiveState

if TYPE_CHECKING:
    from cord_worker.operations.live_watch import LiveWatch

T = TypeVar("T")

_SHOWN_FAILURES = 3
_MAX_PRIORITY = 1000


class WatchApp(App[Exception | None]):
    """Watches one run until the user quits; ends with the error that makes watching impossible, if any."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #progress, #curves, #failures, #notice { height: auto; }
    #head, #progress, #curves, #failures { text-wrap: nowrap; text-overflow: ellipsis; }
    #models { height: 1fr; min-height: 3; }
    #failures { max-height: 4; }
    #notice { color: $text-warning; max-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause"),
        Binding("r", "resume", "Resume"),
        Binding("o", "priority", "Priority"),
        Binding("q", "quit", "Quit"),
    ]

    class Looked(Message):
        """A look has ended, with a state or an error; posted from its thread."""

        def __init__(self, result: LiveState | Exception) -> None:
            super().__init__()
            self.result = result

    class Changed(Message):
        """A change of the run has ended, with a sentence about it or an error; posted from its thread."""

        def __init__(self, result: str | Exception) -> None:
            super().__init__()
            self.result = result

    def __init__(self, watched: LiveWatch, *, interval_seconds: float) -> None:
        super().__init__()
        self._watched = watched
        self._interval = interval_seconds
        self._is_looking = False
        self.state: LiveState | None = None
        """The newest look; None before the first one has ended."""

    def compose(self) -> ComposeResult:
        """The widgets, from top to bottom."""
        yield Static("reading the run …", id="head", markup=False)
        yield Static(id="progress", markup=False)
        yield Static(id="curves", markup=False)
        with VerticalScroll(id="models"):
            yield Static(id="rows", markup=False)
        yield Static(id="failures", markup=False)
        yield Static(id="notice", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Reads the run now, and again every `interval_seconds`."""
        self.set_interval(self._interval, self.look)
        self.look()

    def look(self) -> None:
        """Looks at the run in a thread, unless a look is under way."""
        if not self._is_looking:
            self._is_looking = True
            self._in_thread(self._watched.look, self.Looked)

    def _in_thread(self, work: Callable[[], T], message: Callable[[T | Exception], Message]) -> None:
        def run() -> None:
            try:
                result: T | Exception = work()
            except Exception as error:  # noqa: BLE001 - it is shown, or ends the command with its message
                result = error
            self.post_message(message(result))

        self.run_worker(run, thread=True)

    def on_watch_app_looked(self, event: Looked) -> None:
        """Shows the new state; an outage of the database is shown until it is over."""
        self._is_looking = False
        if isinstance(event.result, LiveState):
            was_out = self.query_one("#notice", Static).has_class("outage")
            self.state = event.result
            self._draw(event.result)
            if was_out:
                self.notice("")
        elif isinstance(event.result, CordError) and not isinstance(event.result, DatabaseRefused | SchemaMismatch):
            self.notice(f"NOT UP TO DATE: {event.result}", is_outage=True)
        else:
            self.exit(event.result)

    def _draw(self, state: LiveState) -> None:
        for part, lines in {
            "head": live_panels.head(state),
            "progress": live_panels.progress(state),
            "curves": live_panels.curves(state),
            "rows": live_panels.models(state),
            "failures": live_panels.failures(state, _SHOWN_FAILURES),
        }.items():
            self.query_one(f"#{part}", Static).update(_text(lines))

    def notice(self, sentence: str, *, is_outage: bool = False) -> None:
        """Shows a sentence in the line above the keys; it replaces the previous one."""
        line = self.query_one("#notice", Static)
        line.update(Text(shown(sentence)))
        line.set_class(is_outage, "outage")

    def on_watch_app_changed(self, event: Changed) -> None:
        """Says what was changed, or why not, and looks again."""
        if isinstance(event.result, Exception) and not isinstance(event.result, CordError):
            self.exit(event.result)
            return
        self.notice(str(event.result))
        self.look()

    def _change(self, change: Callable[[], str]) -> None:
        self._in_thread(change, self.Changed)

    def action_pause(self) -> None:
        """Asks for confirmation, then pauses the run."""
        self._confirm("Pause", "No new work of it begins; results of begun work are still written.")

    def action_resume(self) -> None:
        """Asks for confirmation, then continues the run."""
        self._confirm("Resume", "Its work begins again.")

    def _confirm(self, verb: str, consequence: str) -> None:
        if self.state is None:
            return
        change = self._watched.pause if verb == "Pause" else self._watched.resume

        def answered(yes: bool | None) -> None:
            if yes:
                self._change(change)

        self.push_screen(Confirmation(f"{verb} run {self.state.snapshot.run}? {consequence}"), answered)

    def action_priority(self) -> None:
        """Asks for a number, and makes it the run's priority."""
        if self.state is None:
            return

        def answered(number: int | None) -> None:
            if number is not None:
                self._change(partial(self._watched.set_priority, number))

        self.push_screen(PriorityQuestion(self.state.snapshot.run, self.state.priority), answered)


_DIALOG_CSS = """
{name} {{ align: center middle; }}
{name} > Vertical {{ width: 70; max-width: 95%; height: auto; border: round $primary; padding: 0 1; }}
"""


class Confirmation(ModalScreen[bool]):
    """A question to be answered with y or n."""

    CSS = _DIALOG_CSS.format(name="Confirmation")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question, and the keys that answer it."""
        with Vertical():
            yield Static(Text(shown(self._question)), id="question", markup=False)
            yield Static(Text("\ny: yes   n: no"), markup=False)

    def action_answer(self, yes: bool) -> None:
        """Closes the dialog with this answer."""
        self.dismiss(yes)


class PriorityQuestion(ModalScreen[int | None]):
    """Asks for a priority; Enter sets it, Escape leaves it."""

    CSS = _DIALOG_CSS.format(name="PriorityQuestion")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it")]

    def __init__(self, run: str, priority: int) -> None:
        super().__init__()
        self._run = run
        self._priority = priority

    def compose(self) -> ComposeResult:
        """The question, and the field for the answer."""
        with Vertical():
            yield Static(
                Text(
                    f"Priority of run {shown(self._run)} (now {self._priority}). Problems of the run with the higher "
                    "number start first."
                ),
                id="question",
                markup=False,
            )
            yield Input(str(self._priority), id="number")
            yield Static(Text("Enter: set it   Escape: leave it"), id="hint", markup=False)

    def on_mount(self) -> None:
        """Sets the focus, so that the number can be typed at once."""
        self.query_one(Input).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Closes the dialog with the number if it is whole and from -1000 to 1000; otherwise shows a hint."""
        try:
            number = int(event.value)
        except ValueError:
            number = _MAX_PRIORITY + 1
        if abs(number) > _MAX_PRIORITY:
            hint = f"Give a whole number from -{_MAX_PRIORITY} to {_MAX_PRIORITY}. Escape: leave it"
            self.query_one("#hint", Static).update(Text(hint))
            return
        self.dismiss(number)

    def action_leave(self) -> None:
        """Closes the dialog without a number."""
        self.dismiss(None)


def _text(lines: Sequence[live_panels.Line]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for place, (line, style) in enumerate(lines):
        text.append(("\n" if place else "") + line, style or None)
    return text
