"""Text of others, made fit to be said: it is shown as it stands, and drives no client."""

from __future__ import annotations

import re

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_MEANINGLESS = re.compile(
    "[\x80-\x9f"
    "\u202a-\u202e\u2066-\u2069"  # turn the direction of what follows: shown text is another
    "\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)


def literal(text: str) -> str:
    """Return a text that any protocol takes and any client shows: no controls but ends of lines and tabs.

    Control characters are shown as their pictures (ESC as ␛); what turns the direction of writing,
    lone surrogates and what is no character of XML become U+FFFD.
    """
    text = _LINE_ENDS.sub("\n", text)
    return _MEANINGLESS.sub("\ufffd", _CONTROLS.sub(_picture, text))


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    return "\u2421" if code == 0x7F else chr(0x2400 + code)
