import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from rota.core.backoff import Backoff
from rota.core.literal import literal
from rota.core.recent import Recent


def test_controls_are_shown_and_drive_nothing() -> None:
    assert literal("a\x1b[31mred\x07\x00\x7f\tb\r\nc\rd\u2028e") == "a␛[31mred␇␀␡\tb\nc\nd\ne"
    assert literal("evil\u202etxt.exe\ud800\uffff\x9b") == "evil\ufffdtxt.exe\ufffd\ufffd\ufffd"
    assert literal("Grüße, 世界 👩‍👩‍👧 e\u0301") == "Grüße, 世界 👩‍👩‍👧 e\u0301"


@given(st.text())
def test_any_text_becomes_one_that_xml_and_utf_8_take(text: str) -> None:

    said = literal(text)
    element = ET.Element("body")
    element.text = said
    assert (ET.fromstring(ET.tostring(element, "utf-8")).text or "") == said
    assert literal(said) == said


def test_the_oldest_is_forgotten() -> None:
    recent = Recent(2)
    assert [recent.add(key) for key in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
    assert "c" in recent
    assert "b" not in recent


def test_waits_double_up_to_a_limit() -> None:
    backoff = Backoff(1.0, 5.0)
    assert [backoff.failed() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    backoff.went_well()
    assert backoff.failed() == 1.0


def test_whoever_asks_us_to_wait_is_left_alone_for_so_long_but_not_for_ever() -> None:
    backoff = Backoff()
    assert [backoff.failed(30.0), backoff.failed(0.5), backoff.failed(1e9)] == [30.0, 2.0, 600.0]
