"""Ruby projects with a Gemfile."""

from __future__ import annotations

import re

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import Wanted, asked, at_least, number, order

KNOWN = ("3.2", "3.3", "3.4")
DEFAULT = "3.3"
_RUBY = re.compile(r"^\s*ruby\s+['\"]([^'\"]+)", re.MULTILINE)


def ruby(folder: Folder) -> Finding | None:
    """Find a Gemfile."""
    if not folder.has("Gemfile"):
        return None
    found = Draft("ruby", folder)
    gems = folder.text("Gemfile") + folder.text("Gemfile.lock")
    specs = "".join(folder.text(name) for name in folder.matching("*.gemspec"))
    found.see("Gemfile")
    if not found.word("lock", folder.has("Gemfile.lock")):
        found.notes.append("there is no Gemfile.lock: each build takes the newest gems that fit")
    match = _RUBY.search(folder.text("Gemfile"))
    wanted = (
        Wanted(number(match[1], 2), "Gemfile") if match and number(match[1], 2) else None
    ) or asked(folder, "ruby", (".ruby-version",), 2)
    found.see(wanted.words("Ruby") if wanted else "")
    version = wanted.version if wanted else DEFAULT
    found.values |= {
        "ruby": wanted.version if wanted else "2.7",
        "ruby_image": version if order(version) >= (2, 5) else "2.5",
        "ruby_axis": ",".join(at_least(KNOWN, version, 3)),
    }
    if found.word("rspec", "spec" in folder.folders or folder.has(".rspec")):
        found.see("tests by rspec")
        found.word("rspec_junit", "rspec_junit_formatter" in gems + specs)
    found.word("rake", folder.has("Rakefile", "rakefile"))
    found.word("gem", specs and "bundler/gem_tasks" in folder.text("Rakefile"))
    return found.made()
