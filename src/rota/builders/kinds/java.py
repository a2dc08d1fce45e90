"""Maven, Gradle and sbt: projects of the Java machine."""

from __future__ import annotations

import re

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import Wanted, asked, at_least, fitting, number, order

#: Releases that are kept for years; images exist of these.
KEPT = ("8", "11", "17", "21", "25")
DEFAULT = "17"
_FILES = (".java-version", ".sdkmanrc")

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_POM_VERSION = tuple(
    (re.compile(rf"<{tag}>\s*(?:1\.)?([0-9]+)\s*</"), tag.replace("\\", ""))
    for tag in (
        r"maven\.compiler\.release",
        "release",
        r"java\.version",
        r"maven\.compiler\.source",
        r"maven\.compiler\.target",
        "jdk\\.version",
        "javaVersion",
        "source",
    )
)
_GRADLE_VERSION = (
    (re.compile(r"JavaLanguageVersion\.of\(\s*([0-9]+)\s*\)"), "toolchain"),
    (re.compile(r"jvmToolchain\(\s*([0-9]+)\s*\)"), "jvmToolchain"),
    (re.compile(r"options\.release(?:\.set\(|\s*=\s*)\s*([0-9]+)"), "options.release"),
    (
        re.compile(
            r"sourceCompatibility\s*=?\s*(?:JavaVersion\.VERSION_)?['\"]?(?:1[._])?([0-9]+)"
        ),
        "sourceCompatibility",
    ),
    (
        re.compile(
            r"targetCompatibility\s*=?\s*(?:JavaVersion\.VERSION_)?['\"]?(?:1[._])?([0-9]+)"
        ),
        "targetCompatibility",
    ),
)
_MODULE = re.compile(r"<module>\s*([^<]+?)\s*</module>")
_INCLUDE = re.compile(r"^\s*include\b(.*)$", re.MULTILINE)
_QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")


def maven(folder: Folder) -> Finding | None:
    """Find a Maven project: the pom above all its modules."""
    if not folder.has("pom.xml"):
        return None
    pom = _COMMENT.sub("", folder.text("pom.xml"))
    found = Draft("maven", folder)
    modules = sorted(set(_MODULE.findall(pom)))
    found.see("pom.xml" + (f", {_count(modules, 'module')}" if modules else ""))
    texts = [
        pom,
        *(
            _COMMENT.sub("", folder.below(it).text("pom.xml"))
            for it in modules[:50]
            if ".." not in it
        ),
    ]
    _java(found, folder, _pom_version(texts))
    _wrapper(found, folder, "mvnw")
    found.word("failsafe", any("maven-failsafe-plugin" in text for text in texts))
    found.word("jacoco", any("jacoco-maven-plugin" in text for text in texts))
    return found.made()


def gradle(folder: Folder) -> Finding | None:
    """Find a Gradle project: the one with the settings, above its subprojects."""
    builds = folder.matching(
        "build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"
    )
    if not builds:
        return None
    found = Draft("gradle", folder)
    settings = folder.text("settings.gradle") + folder.text("settings.gradle.kts")
    projects = [name for line in _INCLUDE.findall(settings) for name in _QUOTED.findall(line)]
    found.see(builds[0] + (f", {_count(projects, 'project')}" if projects else ""))
    below = [
        folder.below(name.strip(":").replace(":", "/"))
        for name in projects[:50]
        if ".." not in name
    ]
    texts = [
        it.text(name) for it in (folder, *below) for name in ("build.gradle", "build.gradle.kts")
    ]
    version = next(
        (
            Wanted(match[1], where)
            for pattern, where in _GRADLE_VERSION
            for text in texts
            if (match := pattern.search(text))
        ),
        None,
    )
    _java(found, folder, version)
    _wrapper(found, folder, "gradlew")
    found.word("jacoco", any("jacoco" in text for text in texts))
    return found.made()


def sbt(folder: Folder) -> Finding | None:
    """Find an sbt project."""
    if not folder.has("build.sbt") and not folder.below("project").has("build.properties"):
        return None
    found = Draft("sbt", folder)
    build = folder.text("build.sbt")
    found.see("build.sbt" if folder.has("build.sbt") else "project/build.properties")
    if version := re.search(
        r"sbt\.version\s*=\s*(\S+)", folder.below("project").text("build.properties")
    ):
        found.see(f"sbt {version[1]} (project/build.properties)")
    _java(found, folder, None)
    scalas = _QUOTED.findall(_after(build, r"crossScalaVersions\s*:?=[^(]*\(([^)]*)\)"))
    one = _after(build, r"scalaVersion\s*:=\s*\"([^\"]+)\"")
    if one:
        found.see(f"Scala {one} (scalaVersion)")
    found.values["scala_axis"] = ",".join(
        scalas or [one or "2.13.16", *([] if scalas else ["3.3.6"])]
    )
    plugins = "".join(
        folder.below("project").text(it) for it in folder.below("project").matching("*.sbt")
    )
    found.word("scoverage", "sbt-scoverage" in plugins)
    return found.made()


def _after(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _pom_version(texts: list[str]) -> Wanted | None:
    for text in texts:
        for pattern, where in _POM_VERSION:
            if match := pattern.search(text):
                return Wanted(match[1], where)
    return None


def _java(found: Draft, folder: Folder, said: Wanted | None) -> None:
    wanted = said or asked(folder, "java", _FILES, 1) or Wanted(DEFAULT, "")
    version = number(wanted.version, 1) or DEFAULT
    if version == "1":  # 1.8 of a version manager's file
        version = "8"
    found.see(Wanted(version, wanted.where).words("Java"))
    # A newer machine builds for older ones; but none that exists builds for what is before 8.
    version = version if order(version) >= (8,) else "8"
    found.values |= {
        "java": version if said or wanted.where else "8",
        "java_image": fitting(KEPT, version),
        "java_axis": ",".join(at_least(KEPT, version, 3)),
    }


def _wrapper(found: Draft, folder: Folder, name: str) -> None:
    if not found.word("wrapper", folder.has(name)):
        return
    found.word("executable", folder.is_executable(name))
    properties = {
        "mvnw": folder.below(".mvn").below("wrapper").text("maven-wrapper.properties"),
        "gradlew": folder.below("gradle").below("wrapper").text("gradle-wrapper.properties"),
    }[name]
    version = _after(properties, r"distributionUrl=.*?-([0-9][0-9.]*[0-9])-bin") or _after(
        properties, r"distributionUrl=.*?-([0-9][0-9.]*[0-9])-all"
    )
    found.see(f"./{name}" + (f" ({number(version, 3)})" if version else ""))


def _count(things: list[str], what: str) -> str:
    return f"{len(things)} {what}{'' if len(things) == 1 else 's'}"
