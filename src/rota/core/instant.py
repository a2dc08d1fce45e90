"""A moment, as structures hold it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its zone: one without could not be compared with any other."""
