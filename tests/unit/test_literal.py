import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from rota.core.literal import literal


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
