"""``rota repl``: the commands of the table at a prompt of their own, or out of a script.

:mod:`.session` carries out lines, with pipes to the shell; :mod:`.script` whole texts of them.
:mod:`.terminal` is the prompt on a terminal: it alone, with :mod:`.offers` (completion) and
:mod:`.typed` (colours, faults), imports prompt_toolkit. :mod:`.pulse` knows how the cluster is by
now, :mod:`.bar` says it in one line.
"""
