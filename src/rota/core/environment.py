"""Names and values of environment variables, and which of them a job may not take."""

from __future__ import annotations

import re

from rota.core.fields import FieldError, Spot, printed_value, text, type_name

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = "ROTA_"

#: Whoever may trigger a job chooses its parameters. Those of these names would choose which
#: programs run, and as whom, or be overwritten by the agent or the shell.
_TAKEN = re.compile(
    r"""
    PATH|HOME|CI|SHELL|USER|LOGNAME|PWD|OLDPWD|TMPDIR             # set for every script
    |IFS|PS4|CDPATH|GLOBIGNORE|PROMPT_COMMAND|ZDOTDIR|E?UID|PPID  # shells
    |BASH_ENV|BASHOPTS|SHELLOPTS|BASH_FUNC.*
    |LD_.*|DYLD_.*|GCONV_PATH                                     # the loader
    |PYTHON(PATH|HOME|STARTUP|INSPECT|USERBASE|WARNINGS|BREAKPOINT|EXECUTABLE|PLATLIBDIR)
    |PERL(5LIB|5OPT|5DB|LIB)|RUBY(LIB|OPT)|NODE_(OPTIONS|PATH)|LUA_(INIT|PATH|CPATH)
    |CLASSPATH|(JAVA_TOOL|JDK_JAVA|_JAVA)_OPTIONS
    |GIT_(SSH|SSH_COMMAND|EXEC_PATH|DIR|ASKPASS|EDITOR|PAGER|PROXY_COMMAND|EXTERNAL_DIFF)
    |GIT_TEMPLATE_DIR|GIT_CONFIG.*|SSH_ASKPASS|EDITOR|VISUAL|PAGER
    |MAKEFLAGS|MAKEFILES
    """,
    re.VERBOSE,
)


def variable_fault(name: str) -> str | None:
    """Say what is wrong with ``name`` for a variable that a definition sets, or ``None``."""
    if not _NAME.fullmatch(name):
        return "is no name of a variable: letters, digits and _, no digit first"
    if name.startswith(_OURS):
        return f"is reserved: names in {_OURS} are set by the agent"
    return None


def param_fault(name: str) -> str | None:
    """Say what is wrong with ``name`` for a parameter, which becomes a variable, or ``None``."""
    if _TAKEN.fullmatch(name):
        return "is reserved: shells, the loader or other programs go by the variable of that name"
    return variable_fault(name)


def variable(value: object, spot: Spot) -> str:
    """Read the value of a variable."""
    if isinstance(value, bool | int | float):
        raise FieldError(
            f"must be a string, not {type_name(value)}", f'write "{printed_value(value)}"'
        )
    return text(value, spot)
