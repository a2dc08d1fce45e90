"""rota: a masterless build system and job scheduler."""

try:
    # Made with the package, from git. The package's metadata says it too, and takes as long to ask
    # as all else that `rota --version` does.
    from rota._version import (  # type: ignore[import-not-found, unused-ignore]
        __version__ as __version__,
    )
except ImportError:
    __version__ = "0.0.0+source"
