"""``python -m rota.chat``, started by a daemon: its end of the connection is standard input."""

from __future__ import annotations

from rota.chat.process import main

if __name__ == "__main__":
    main()
