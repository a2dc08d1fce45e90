"""Brings manual pages, completion and the unit into a wheel: hatchling runs it when one is built."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DataFiles(BuildHookInterface[Any]):
    """What goes below ``share`` beside the program."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the data files, unless the wheel only points to the sources."""
        if version == "editable":
            return
        sys.path[:0] = [str(Path(self.root) / "src"), str(Path(self.root) / "packaging")]
        from data import write

        self._made = tempfile.TemporaryDirectory(prefix="rota-build-")
        written = write(Path(self._made.name), self.metadata.version)
        build_data["shared_data"] = {str(path): f"share/{place}" for place, path in written.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made: it is in the wheel."""
        if version != "editable":
            self._made.cleanup()
