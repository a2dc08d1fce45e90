"""What is said fits a network and calls nobody; what is heard is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from rota.chat.fit import fitted, plain
from rota.chat.pace import Bucket, Flood, Rate
from rota.chat.scroll import MAX_CHARACTERS, Scroll
from rota.ports.networks import Abilities, Saying

SMALL = Abilities(characters=400, lines=5)


def saying(**changes: str) -> Saying:
    """Return a message of ours."""
    return Saying(id="x", room="#r", **changes)


def test_a_log_calls_nobody_and_paints_nothing() -> None:
    text = "\x1b[31mred\x1b[0m \x02bold\x03 @channel @Here !room\u202e\r\nnext\tcell"
    assert plain(text) == "red bold @\u2060channel @\u2060Here !\u2060room\nnext    cell"


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    done = plain(text)
    assert all(it == "\n" or it.isprintable() or ord(it) > 0x9F for it in done)
    assert plain(done) == done


def test_of_many_lines_the_last_are_shown_and_a_link() -> None:
    code = "\n".join(f"line {number}" for number in range(1, 31))
    done = fitted(saying(text="web#1", code=code, link="https://x/log"), SMALL)
    assert done.code == "… 28 lines left out\nline 29\nline 30"
    assert done.link == "https://x/log"
    first = fitted(saying(text="builds", code=code), SMALL, keep_first=True)
    assert first.code == "line 1\nline 2\nline 3\n… 27 lines left out"


@given(st.text(max_size=3000), st.text(max_size=3000), st.booleans())
def test_whatever_is_said_fits(text: str, code: str, keep_first: bool) -> None:
    done = fitted(saying(text=text, code=code), SMALL, keep_first=keep_first)
    lines = done.text.count("\n") + 1 + (done.code.count("\n") + 1 if done.code else 0)
    assert lines <= SMALL.lines + 1
    assert len(done.text) + len(done.code) <= SMALL.characters + 60


def test_a_bucket_lets_so_many_through_and_then_one_at_a_time() -> None:
    bucket = Bucket(2.0, 3)
    assert [bucket.take(10.0) for _ in range(5)] == [0, 0, 0, 2.0, 4.0]
    assert bucket.take(20.0) == 0
    assert [Bucket(0.0, 1).take(1.0) for _ in range(3)] == [0, 0, 0]


def test_who_floods_is_told_once_and_heard_again_later() -> None:
    flood = Flood(Rate(1.0, 3), Rate(0.1, 1000))
    heard = [flood.admits("eve", "#r", 1.0) for _ in range(1000)]
    assert sum(heard) == 3
    assert [flood.is_to_tell("eve", 1.0) for _ in range(3)] == [True, False, False]
    assert flood.admits("ann", "#r", 1.0)
    assert flood.admits("eve", "#r", 3.0)
    assert flood.is_to_tell("eve", 3.0)


def test_many_people_together_do_not_drown_it_either() -> None:
    flood = Flood(Rate(1.0, 3), Rate(1.0, 50))
    heard = [flood.admits(f"eve{number}", "#r", 1.0) for number in range(10_000)]
    assert sum(heard) == 50
    assert sum(flood.is_to_tell(f"eve{number}", 1.0) for number in range(10_000)) == 3


def test_a_scroll_keeps_the_beginning_or_the_end() -> None:
    first, last = Scroll(keep_first=True), Scroll(keep_first=False)
    for scroll in (first, last):
        scroll.write("begin")
        scroll.write("x" * MAX_CHARACTERS)
        scroll.write("end")
    assert first.text.startswith("begin")
    assert last.text.endswith("end")
    assert len(first.text) == len(last.text) == MAX_CHARACTERS
    assert first.is_cut
