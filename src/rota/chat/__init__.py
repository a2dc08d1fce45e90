"""The process that speaks on chat networks for the leader: it has the libraries, and no state.

The daemon starts it (:mod:`rota.adapters.chat_process`), tells it what to be on, and hears from it;
it ends when the daemon does. What people write is taken apart here and nowhere else.
"""
