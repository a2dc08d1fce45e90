"""The files that a new store starts with, and git's configuration of it."""

from __future__ import annotations

HEAD = "ref: refs/heads/main\n"

#: Written again whenever it differs. Every commit is one pack (no loose objects: one write to
#: disk each), and only our own housekeeping repacks, so that no command ever waits for it.
CONFIG = """\
# Written by rota at each start. Your own settings belong into config.local beside this file.
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tfsync = committed,loose-object,reference,pack-metadata
\tlogAllRefUpdates = false
\tbigFileThreshold = 8m
[fastimport]
\tunpackLimit = 1
[receive]
\tprocReceiveRefs = refs/heads/main
\tunpackLimit = 1
\tfsckObjects = true
\tdenyNonFastForwards = true
\tdenyDeletes = true
\tautogc = false
\tmaxInputSize = 268435456
[transfer]
\thideRefs = refs/rota
[uploadpack]
\tallowFilter = true
[http]
\treceivepack = true
\tgetanyfile = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[repack]
\twriteBitmaps = false
[pack]
\tthreads = 2
\twindowMemory = 64m
[include]
\tpath = config.local
"""

README = """\
# The store

This repository is what your build system knows. Every agent has the same one.

- `main` holds the definitions: a file under `jobs/` is a job, its path is its name.
  Its settings stand in a comment block at its top. `settings.toml` holds what concerns all jobs.
- `history` holds what ran: one file a build, one commit for every few builds.

Clone it, change it, push it: a pushed job runs at its next trigger, and a push with a fault in it
is refused with the file, the line and what was probably meant.

    git clone --branch history URL          # what ran
    git log -- builds/web/test              # of one job
    git log -p jobs/web/test                # who changed a job, and how
"""

SETTINGS = """\
# What holds for every job unless its header says otherwise. These are the defaults.

# path = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
# env = { LANG = "C.UTF-8" }     # variables of every build
# timeout = "6h"                 # of jobs that name none; "none" for no limit
# voters = 3                     # agents that run the engine's servers: 1, 3 or 5

# [logs]
# max_age = "30d"                # a log older than this is removed
# max_bytes = "20G"              # beyond this, the oldest are

# [artifacts]
# max_age = "90d"                # what a build left is removed so long after its end
# max_bytes = "50G"              # beyond this, what the oldest builds left is

# [builds]
# keep_failed_workspaces = 5     # on each agent, to look into

# [workspaces]
# max_age = "7d"                 # a workspace that is kept goes after so long
# max_bytes = "20G"              # on each agent; beyond this, the oldest go
# max_count = 20                 # the same by their number
# shell_idle = "1h"              # a shell in which nothing stirs ends after so long

# [agents]
# lost_after = "8s"              # an agent silent for so long is lost, and what it ran with it
# stopped_after = "1m"           # the same for one that said that it stops
# replace_after = "1m"           # a voter lost for so long is replaced
"""
