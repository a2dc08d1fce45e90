r"""Nets: regular expressions in which values that must not be shown are caught in any disguise.

RE2 reads a log once, whatever there is to find: a net has the first :data:`ANCHOR` characters of each
form, and only where these stand is the whole form looked at. Between two characters that count may
stand anything that is none: punctuation, line ends, colours, line ends and punctuation encoded
(``\n``, ``%2B``), the offsets of dumps. Each character may be encoded itself: ``%41``, ``\u0041``,
``&#65;``, ``\101``.

All of this is a function of the bytes around a place, and reaches no further than :data:`rota.core.disguises.REACH`.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rota.core.disguises import Form, all_exacts, all_forms, counts

ANCHOR = 6
#: Fewer characters of a form at the end of what is written so far are no reason to hold it back.
LEAST_OPEN = 3
#: In so many bytes stands what is less than an anchor.
TAIL = 160
#: For the expression of all anchors, and for that of one form.
MAX_MEM, FORM_MEM = 192 << 20, 8 << 20
#: A form printed but for its end is hidden as well, from so many characters on.
CUT = 32
MAX_COMPILED = 256
#: A form whose anchor stood for nothing so often in a piece is searched for otherwise.
MISSES = 200

_ANSI = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()*+][0-9A-Z]|[=>78@-Z\\^_c])"
#: Any character that does not count, but for the one that begins a colour.
_OTHER = r"[^A-Za-z0-9\x80-\xff\x1b]"
#: In hex: the bytes that do not count.
_HEX_OTHER = "(?:[01][0-9A-Fa-f]|2[0-9A-Fa-f]|3[A-Fa-f]|40|5[B-Fb-f]|60|7[B-Fb-f])"
_ESCAPED_OTHER = (
    rf"|%(?:25)*{_HEX_OTHER}|\\(?:[nrtabfve]|(?:x|u00){_HEX_OTHER}|0[0-7][0-7])"
    r"|&(?:amp;)*(?:[a-z]+|#(?:[0-9]+|[xX][0-9A-Fa-f]+));"
)
#: Signs beyond ASCII that do not count: see rota.core.disguises.counts.
_SIGN = r"|\xc2[\x80-\xbf]|\xe2[\x80\x81\x86\x87\x94-\x96][\x80-\xbf]|\xef\xbb\xbf"
#: Colours as they are spelt out.
_SPELT = r"|(?:\^\[|\\(?:033|[eE]|[xX]1[bB]|u001[bB]))\[[0-9;?]*[A-Za-z]"
#: Before a line, its number or its time.
_NUMBER = r"|\r?\n[ \t]*[\[(<]?[0-9][0-9TZ:., +-]*[ \t:.)|>\]]"
_HEX7 = "[0-9A-Fa-f]" * 7
#: The end of a dump's line, and the offset and columns with which the next one begins.
_OFFSET = rf"|\|?\r?\n{_HEX7}[0-9A-Fa-f]?:? [ 0-9A-Fa-f]*\|?"
#: The column of characters behind those of a dump, and the next line's offset.
_COLUMN = rf"| ? ?\|?[^\n]{{0,18}}\n{_HEX7}[0-9A-Fa-f]?:?"
#: Between two characters of an anchor: the less, the faster.
ANCHOR_GAPS = {
    "text": f"(?:{_OTHER}|{_ANSI}{_ESCAPED_OTHER}{_OFFSET}{_SIGN}{_SPELT}{_NUMBER})*",
    "plain": f"{_OTHER}*",
    "dump": rf"(?:{_OTHER}|0[xX]|\\x|\n{_HEX7} )*",
}
#: And of a whole form.
GAPS = {
    "text": ANCHOR_GAPS["text"],
    "plain": f"(?:{_OTHER}|{_ANSI}|\\\\[nrt]{_SIGN})*",
    "dump": f"(?:{_OTHER}|{_ANSI}|0[xX]|\\\\[xnrt]{_COLUMN})*",
}
_EXACT_GAP = f"(?:{_ANSI})*"
#: What may stand between a form and what is beside it and of it.
_BLANK = rf"(?:[ \t\r\n\x00]|{_ANSI})*"
MAX_SIDE = 64
#: What may be the beginning of something encoded, at the end of what is written so far.
_TORN = (
    r"(?:\x1b[^A-Za-z\n]{0,40}|(?:%[0-9A-Fa-f]{0,7}){1,4}|(?:\\+[A-Za-z0-9{]{0,10}){1,4}"
    r"|&[#A-Za-z0-9;]{0,12}|[\x80-\xff]{1,3}|0[xX]?)?"
)
#: And of what may stand before a line that goes on with a form.
_TORN_LINE = r"|\r?\n[ \t]*[\[(<]?[0-9A-Fa-f][0-9A-Fa-fTZ:., +-]*)"
#: By name, what programs write for characters that count for nothing.
_ENTITIES = {
    "&": ("amp",),
    "<": ("lt",),
    ">": ("gt",),
    '"': ("quot",),
    "'": ("apos",),
    "\xa0": ("nbsp",),
}
_BASE64_BEFORE = re.compile(rb"[A-Za-z0-9+/_-]\Z")
_BASE64_AFTER = re.compile(rb"[A-Za-z0-9+/_-]?(?:=|%3[Dd]){0,2}")


class Net:
    """What catches some values, in all their forms."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.given = tuple(values)
        self._forms, self._values = all_forms(values), all_exacts(values)
        self._by_anchor: dict[str, list[Form]] = {}
        self._beginnings: set[str] = set()
        self._anchors: Any = None
        self._exact: Any = None
        self._exact_opens: Any = None
        self._whole: dict[tuple[Form, bool], Any] = {}
        # Forms whose anchors stand everywhere for nothing are searched for as a whole instead.
        self._misses: Counter[Form] = Counter()
        self._common: list[Form] = []
        self._commons: Any = None
        self._common_opens: Any = None

    def weave(self) -> None:
        """Compile the expressions. Cost: 3 ms a value.

        Raises:
            ValueError: there is too much to catch.
        """
        self._weave_anchors(self._forms)
        if self._values:
            patterns = [[_exact_char(ch) for ch in _units(value)] for value in self._values]
            whole = "|".join(_EXACT_GAP.join(parts) for parts in patterns)
            self._exact = _compiled(whole, MAX_MEM, longest=True)
            nested = "|".join(
                _nested(parts[:-1], [_EXACT_GAP] * len(parts), 2) for parts in patterns
            )
            self._exact_opens = _compiled(f"(?:{nested}){_TORN}\\z", MAX_MEM)

    def _weave_anchors(self, forms: Sequence[Form]) -> None:
        self._by_anchor = defaultdict(list)
        for form in forms:
            self._by_anchor[form.canon[:ANCHOR]].append(form)
        self._beginnings = {
            form.canon[:count] for form in forms for count in range(LEAST_OPEN, ANCHOR)
        }
        kinds = [
            _tree({form.canon[:ANCHOR] for form in forms if form.kind == kind}, kind)
            for kind in GAPS
        ]
        text = "|".join(filter(None, kinds))
        self._anchors = _compiled(text, MAX_MEM) if text else None

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where something is caught; spans may overlap.

        Cost: 2 to 4 ms a MiB; 5 µs a catch as it is written, some 20 µs a disguised one.

        Raises:
            ValueError: there is too much to catch.
        """
        self._misses.clear()
        if self._exact is not None:
            yield from _each(lambda: self._exact, data, lambda it: (it.start(), it.end()))
        yield from _each(lambda: self._anchors, data, lambda it: self._extent(data, it))
        yield from _each(lambda: self._commons, data, lambda it: self._common_extent(data, it))

    def open_tail(self, data: bytes) -> int:
        """Return how many bytes at the end of ``data`` may be the beginning of a disguised value."""
        longest = 0
        for opens in (self._exact_opens, self._common_opens):
            if opens is not None and (found := opens.search(data)) is not None:
                longest = max(longest, len(data) - int(found.start()))
        if self._anchors is None:
            return longest
        # So little of a form is waited for within its line alone: what ends a line is mostly whole.
        line = data[max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 :]
        longest = max(longest, self._open_anchor(line[-TAIL:]))
        self._misses.clear()
        at = 0
        while self._anchors is not None and (found := self._anchors.search(data, at)) is not None:
            at = found.start() + 1
            if len(data) - found.start() <= longest:
                break
            forms = self._candidates(data, found)
            if any(self._expression(it, is_open=True).match(data, found.start()) for it in forms):
                return max(longest, len(data) - int(found.start()))
            if not any(data.startswith(form.exact, found.start()) for form in forms):
                self._missed(forms)
        return longest

    def _open_anchor(self, tail: bytes) -> int:
        """Return how many bytes at the end may be the beginning of an anchor."""
        for end in _ends(tail):
            for reading in _readings(tail[:end]):
                for count in range(ANCHOR - 1, LEAST_OPEN - 1, -1):
                    if reading[-count:] in self._beginnings and len(reading) >= count:
                        return len(tail) - _start_of(tail[:end], reading[-count:])
        return 0

    def _extent(self, data: bytes, found: Any) -> tuple[int, int] | None:
        """Return how far what an anchor begins reaches; ``None`` if it is no form after all."""
        start, stop, best = found.start(), -1, None
        forms = self._candidates(data, found)
        for form in forms:
            if data.startswith(form.exact, start):
                end = start + len(form.exact)
            else:
                match = self._expression(form, is_open=False).match(data, start)
                end = -1 if match is None else match.end()
            if end > stop:
                stop, best = end, form
        if best is None:
            self._missed(forms)
            return None
        return _with_sides(data, start, stop, best)

    def _common_extent(self, data: bytes, found: Any) -> tuple[int, int]:
        start, stop = found.start(), found.end()
        for form in self._common:
            match = self._expression(form, is_open=False).match(data, start)
            if match is not None and match.end() == stop:
                return _with_sides(data, start, stop, form)
        return start, stop

    def _candidates(self, data: bytes, found: Any) -> Sequence[Form]:
        """Return the forms that may begin where an anchor was found."""
        text = data[found.start() : found.end()]
        if len(text) == ANCHOR and text.isascii():
            return self._by_anchor.get(text.decode("ascii").lower(), ())
        read = set(_readings(text))
        hits = [form for anchor in read for form in self._by_anchor.get(anchor, ())]
        if hits:
            return hits
        # Encoded in two ways at once: any that may be encoded at all.
        return [form for form in self._forms if form.kind == "text" and form not in self._common]

    def _missed(self, forms: Iterable[Form]) -> None:
        """Take note of forms that were not where their anchors are."""
        self._misses.update(forms)
        common = [form for form in forms if self._misses[form] > MISSES]
        if not common:
            return
        self._common += common
        rest = [form for form in self._forms if form not in self._common]
        self._weave_anchors(rest)
        whole, opens = (
            "|".join(_pattern(form, is_open=is_open) for form in self._common)
            for is_open in (False, True)
        )
        self._commons = _compiled(whole, MAX_MEM, longest=True)
        self._common_opens = _compiled(opens, MAX_MEM, longest=True)

    def _expression(self, form: Form, *, is_open: bool) -> Any:
        """Return the expression of a whole form; or of its beginnings, up to the end of the text."""
        known = self._whole.get((form, is_open))
        if known is not None:
            return known
        if len(self._whole) >= MAX_COMPILED:
            del self._whole[next(iter(self._whole))]
        compiled = _compiled(_pattern(form, is_open=is_open), FORM_MEM, longest=True)
        self._whole[form, is_open] = compiled
        return compiled


# -- expressions ----------------------------------------------------------------------------------


def _compiled(pattern: str, max_mem: int, *, longest: bool = False) -> Any:
    import re2  # 10 ms, which an agent that masks nothing does not need

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.never_capture = True
    options.longest_match = longest
    options.dot_nl = True
    for options.max_mem in (max_mem, 4 * max_mem):  # what it needs, and room for what it learns
        try:
            return re2.compile(pattern.encode("latin-1"), options)
        except re2.error:
            continue
    raise ValueError("there is more to mask than an expression can hold")


def _pattern(form: Form, *, is_open: bool) -> str:
    """Return the expression of a whole form; or of its beginnings, up to the end of the text."""
    parts = [_char(ch, form.kind) for ch in form.canon]
    gaps = [GAPS[form.kind]] * len(parts)
    if is_open:
        return f"{_nested(parts[:-1], gaps, ANCHOR)}(?:{_TORN}{_TORN_LINE}\\z"
    least = len(parts) if len(parts) < CUT else max(CUT, len(parts) * 3 // 4)
    return _nested(parts, gaps, least, is_bare=True)


def _tree(anchors: Iterable[str], kind: str) -> str:
    """Return an expression of all anchors, common beginnings once."""
    groups: dict[str, list[str]] = defaultdict(list)
    for anchor in sorted(anchors):
        groups[anchor[0]].append(anchor[1:])
    branches = []
    for first, rest in groups.items():
        tails = [tail for tail in rest if tail]
        here = _char(first, kind)
        branches.append(here + ANCHOR_GAPS[kind] + _tree(tails, kind) if tails else here)
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})" if branches else ""


def _nested(parts: Sequence[str], gaps: Sequence[str], least: int, *, is_bare: bool = False) -> str:
    """Return an expression of the first ``least`` parts, and of as many of the others as follow.

    With ``is_bare`` it ends with a part, else with what may stand after one.
    """
    least = min(least, len(parts))
    out = []
    for index, part in enumerate(parts[:least]):
        is_last = index == least - 1
        out.append(part if is_last and is_bare else part + gaps[index])
    if is_bare:
        rest = [gaps[index] + part for index, part in enumerate(parts[least:])]
    else:
        rest = [part + gaps[index] for index, part in enumerate(parts[least:])]
    out += [f"(?:{it}" for it in rest]
    return "".join(out) + ")?" * len(rest)


def _char(ch: str, kind: str) -> str:
    """Return the expression of one character that counts, in all ways in which it may be written."""
    both = sorted({ch, ch.upper()} if len(ch.upper()) == 1 else {ch})
    if not ch.isascii():
        ways = [way for it in both for way in _ways(it)] if kind == "text" else map(_plain, both)
        return f"(?:{'|'.join(ways)})"
    plain = f"[{''.join(both)}]" if len(both) > 1 else ch
    if kind != "text":
        return plain
    # As _ways has them, for both sizes at once: an expression half as long.
    code = "|".join(_hex(f"{ord(it):02x}") for it in both)
    octal, decimal = (
        "|".join(f"{ord(it):03o}" for it in both),
        "|".join(str(ord(it)) for it in both),
    )
    return (
        rf"(?:{plain}|%(?:25)*(?:{code})|\\+(?:(?:x|u00|[xu]\{{0*|U000000)(?:{code})\}}?|0?(?:{octal}))"
        rf"|&(?:amp;)*#(?:0*(?:{decimal})|[xX]0*(?:{code}));)"
    )


def _plain(ch: str) -> str:
    return _raw(_utf8(ch))


def _exact_char(ch: str) -> str:
    """Return the expression of one character of a value that is searched for as it is."""
    ways = list(_ways(ch))
    if ch.isascii() and not ch.isalnum():
        ways.append(r"\\{1,3}" + _raw(_utf8(ch)))
        if ch == "'":
            ways += [r"'\\''", "'\"'\"'"]
        if ch in "\"'":
            ways.append(ch + ch)
        if ch == " ":
            ways.append(r"\+")
        if ch == "\t":
            ways.append(r"\\t")
    ways += [f"&(?:amp;)*{name};" for name in _ENTITIES.get(ch, ())]
    return f"(?:{'|'.join(ways)})"


def _ways(ch: str) -> Iterator[str]:
    """Yield in which ways a character is written: as it is, and encoded."""
    raw, point = _utf8(ch), ord(ch)
    yield _raw(raw)
    yield "".join(f"%(?:25)*{_hex(f'{byte:02x}')}" for byte in raw)
    yield "".join(rf"\\+x{_hex(f'{byte:02x}')}" for byte in raw)
    yield "".join(rf"\\+0?{byte:03o}" for byte in raw)
    if 0xD800 <= point <= 0xDFFF:
        return
    units = ch.encode("utf-16-be").hex()
    yield "".join(rf"\\+u{_hex(units[i : i + 4])}" for i in range(0, len(units), 4))
    yield rf"\\+(?:u\{{0*{_hex(f'{point:x}')}\}}|U{_hex(f'{point:08x}')})"
    yield f"&(?:amp;)*#(?:0*{point}|[xX]0*{_hex(f'{point:x}')});"


def _hex(digits: str) -> str:
    return "".join(f"[{it}{it.upper()}]" if it.isalpha() else it for it in digits)


def _raw(data: bytes) -> str:
    return "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() else f"\\x{b:02x}" for b in data)


def _utf8(ch: str) -> bytes:
    return ch.encode("utf-8", "surrogateescape")


def _units(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


# -- what was found -------------------------------------------------------------------------------


def _each(
    expression: Callable[[], Any], data: bytes, extent: Callable[[Any], tuple[int, int] | None]
) -> Iterator[tuple[int, int]]:
    """Yield what is caught from each place on where something is; what repeats itself as one."""
    at = 0
    while (it := expression()) is not None and (found := it.search(data, at)) is not None:
        span = extent(found)
        at = found.start() + 1
        if span is None:
            continue
        start, stop = span
        period = _period_of(data[start:stop])
        if period < stop - start:
            repetition = data[stop - period : stop]
            while data.startswith(repetition, stop):
                stop += period
            at = max(at, stop - (span[1] - span[0]) + 1)
        yield start, stop


def _period_of(text: bytes) -> int:
    """Return by how many bytes a text must be shifted to agree with itself; its length mostly."""
    at = text.find(text[: max(1, len(text) // 2)], 1)
    while 0 < at < len(text):
        if text.startswith(text[at:]):
            return at
        at = text.find(text[: max(1, len(text) // 2)], at + 1)
    return len(text)


def _with_sides(data: bytes, start: int, stop: int, form: Form) -> tuple[int, int]:
    """Return where a form is with what is beside it and of it."""
    if form.border:
        start -= 1 if _BASE64_BEFORE.search(data, max(0, start - 1), start) else 0
        after = _BASE64_AFTER.match(data, stop)
        return start, stop if after is None else after.end()
    if form.after and (found := _after(form.after).match(data, stop)) is not None:
        stop = found.end()
    if form.before:
        first = max(0, start - 12 * len(form.before) - 40)
        if (found := _before(form.before).search(data[first:start])) is not None:
            start = first + found.start()
    return start, stop


@functools.lru_cache(maxsize=256)
def _after(text: bytes) -> Any:
    """Return the expression of as much of what comes after a form as is there."""
    parts = [_BLANK + _exact_char(ch) for ch in _units(text)[:MAX_SIDE]]
    return _compiled(_nested(parts, [""] * len(parts), 1), FORM_MEM, longest=True)


@functools.lru_cache(maxsize=256)
def _before(text: bytes) -> Any:
    """Return the expression of as much of what comes before a form as is there."""
    inner = ""
    for ch in _units(text)[-MAX_SIDE:]:
        inner = (
            f"(?:{inner}?{_exact_char(ch)}{_BLANK})" if inner else f"(?:{_exact_char(ch)}{_BLANK})"
        )
    return _compiled(inner + r"\z", FORM_MEM)


#: So long is what may be torn, at most.
TORN = 42
_TORN_BEGIN = re.compile(rb"[0\x1b%\\&\x80-\xff]")
_TORN_END = re.compile(_TORN.encode("latin-1") + rb"\Z")
_COLOUR = re.compile((_ANSI + _SPELT).encode("latin-1"))
_ROW = re.compile((_OFFSET[1:] + _COLUMN + _NUMBER).encode("latin-1"))
_MAY_COLOUR = re.compile(rb"[\x1b\\^]")
_CODED = re.compile(rb"[%\\&]|0[xX]")
_PREFIX = re.compile(rb"0[xX]|\\x")
_CODE = re.compile(
    rb"%(?:25)*([0-9A-Fa-f]{2})|\\+(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|[xu]\{([0-9A-Fa-f]{1,8})\}"
    rb"|U([0-9A-Fa-f]{8})|0?([0-3][0-7]{2}))|&(?:amp;)*#(?:([0-9]{1,7})|[xX]([0-9A-Fa-f]{1,6}));"
    rb"|\\([nrtabfve])|&(?:amp;)*[a-z]{2,6};"
)


def _readings(text: bytes) -> Iterator[str]:
    """Yield what an anchor's bytes may come to: as they are, decoded, and without a dump's columns."""
    bare = _COLOUR.sub(b"", text) if _MAY_COLOUR.search(text) is not None else text
    for way in dict.fromkeys((bare, _ROW.sub(b"", bare) if b"\n" in bare else bare)):
        yield _folded(way)
        if _CODED.search(way) is not None:
            yield _folded(_CODE.sub(_decoded, way))
            yield _folded(_PREFIX.sub(b"", way))


def _ends(tail: bytes) -> list[int]:
    """Return where what is whole may end: behind it is the beginning of something encoded, or nothing."""
    first = max(0, len(tail) - TORN)
    torn = (it.start() for it in _TORN_BEGIN.finditer(tail, first))
    return [end for end in (*torn, len(tail)) if _TORN_END.match(tail, end) is not None]


def _start_of(text: bytes, end: str) -> int:
    """Return where the characters begin that the end of a text comes to."""
    for start in range(len(text) - 1, -1, -1):
        if any(reading.endswith(end) for reading in _readings(text[start:])):
            # What encodes the first one may begin further to the left.
            return min(_ends(text[:start]))
    return 0


def _decoded(match: re.Match[bytes]) -> bytes:
    raw = match[1] or match[2]
    if raw:
        return bytes([int(raw, 16)])
    for group, base in ((3, 16), (4, 16), (5, 16), (7, 10), (8, 16)):
        if match[group]:
            point = int(match[group], base)
            return chr(point).encode("utf-8", "replace") if point < 0x110000 else b""
    return bytes([int(match[6], 8)]) if match[6] else b""


def _folded(text: bytes) -> str:
    found = filter(counts, _units(text))
    return "".join(ch.lower() if len(ch.lower()) == 1 else ch for ch in found)
