#!/usr/bin/env python3
# /// script
# [tool.rota]
# description = "a Python script, with parameters and a kept file"
# timeout = "20m"
# # Files to keep when it has ended; `rota artifacts` fetches them.
# artifacts = ["report.json"]
#
# # Each parameter is an environment variable. Types: string, int, float, bool.
# [tool.rota.params]
# suite = { default = "fast", choices = ["fast", "full"], description = "which tests" }
# rounds = { default = 3, description = "how often" }
# ///
"""Says what it was asked to do, and leaves a report."""

import json
import os
from pathlib import Path

suite = os.environ["suite"]
rounds = int(os.environ["rounds"])

for number in range(1, rounds + 1):
    print(f"round {number} of {rounds}: {suite}", flush=True)

print("::notice title=done::the report is an artifact")
Path("report.json").write_text(json.dumps({"suite": suite, "rounds": rounds}))
