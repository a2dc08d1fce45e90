"""``rota top``: the cluster live in a terminal.

:mod:`.view` is what a person chose (selection, filter, sort, log) and what keys do to it, :mod:`.frame`
the picture, line by line; both are pure. :mod:`.feed` asks an agent, in threads of its own, and
:mod:`.terminal` draws with curses.
"""
