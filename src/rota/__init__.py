"""rota: a masterless build system and job scheduler."""

__version__ = "0.1.0"
