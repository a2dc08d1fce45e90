"""GitHub's expressions ``${{ … }}`` as shells and headers say the same, where they can.

What an expression reads becomes a variable: a secret, a parameter, a value of the matrix, or one that the
agent sets. Operators and functions have no like, and stay for a person to see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rota.core.environment import param_fault
from rota.core.secret_use import secret_name_fault

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
#: What GitHub calls it, and how a script says it here.
_CONTEXT = {
    "github.sha": "${ROTA_GIT_COMMIT}",
    "github.ref": "${ROTA_GIT_REF}",
    "github.ref_name": "${ROTA_GIT_BRANCH}",
    "github.head_ref": "${ROTA_GIT_HEAD}",
    "github.base_ref": "${ROTA_GIT_BASE}",
    "github.workspace": "${ROTA_WORKSPACE}",
    "github.run_id": "${ROTA_BUILD}",
    "github.run_number": "${ROTA_NUMBER}",
    "github.run_attempt": "${ROTA_ATTEMPT}",
    "github.job": "${ROTA_JOB}",
    "github.workflow": "${ROTA_JOB}",
    "github.event.number": "${ROTA_PULL_REQUEST}",
    "github.event.pull_request.number": "${ROTA_PULL_REQUEST}",
    "runner.temp": "${TMPDIR}",
    "runner.name": "${ROTA_AGENT}",
    "runner.os": "$(uname -s)",
}


def variable(name: str) -> str:
    """Return a name as a variable has it."""
    return name.replace("-", "_").replace(".", "_")


@dataclass
class Reading:
    """What the expressions of a text came to."""

    secrets: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def shell(self, text: str) -> str:
        """Return a script in which variables stand for expressions."""
        return EXPRESSION.sub(lambda match: self._shell(match), text)

    def header(self, text: str) -> str | None:
        """Return a value of a header, with ``{name}`` for parameters; ``None`` where it cannot be."""
        known: list[str] = []

        def replaced(match: re.Match[str]) -> str:
            head, _, name = match[1].partition(".")
            if head in ("matrix", "inputs") and _NAME.fullmatch(name):
                return "{" + variable(name) + "}"
            known.append(match[1])
            return ""

        value = EXPRESSION.sub(replaced, text)
        self.unknown += known
        return None if known else value

    def _shell(self, match: re.Match[str]) -> str:
        said = self._variable(match[1])
        if said is None:
            self.unknown.append(match[1])
            return match[0]
        return said

    def _variable(self, text: str) -> str | None:
        if text in _CONTEXT:
            return _CONTEXT[text]
        parts = text.split(".")
        if parts[:2] == ["github", "event"] and parts[2:3] == ["inputs"]:
            parts = ["inputs", *parts[3:]]
        if len(parts) != 2 or not _NAME.fullmatch(parts[1]):
            return None
        name = variable(parts[1])
        match parts[0]:
            case "secrets" if secret_name_fault(parts[1]) is None and param_fault(name) is None:
                if parts[1] not in self.secrets:
                    self.secrets.append(parts[1])
                return f"${{{name}}}"
            case "matrix" | "inputs" | "env":
                return f"${{{name}}}"
            case _:
                return None
