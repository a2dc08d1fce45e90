"""The last few ids are known, the others forgotten."""

from __future__ import annotations

from rota.core.recent import Recent


def test_the_oldest_is_forgotten() -> None:
    recent = Recent(2)
    assert [recent.add(key) for key in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
    assert "c" in recent
    assert "b" not in recent
