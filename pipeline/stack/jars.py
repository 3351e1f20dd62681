"""The Java side of an installation: finds Java, and fetches the jars of the broker and of Spark's extensions once, into a cache.

The Ivy that ships inside pyspark resolves the pinned coordinates, so neither Maven nor another tool is needed. Each set lies in a
folder of its own (`SLUICE_JARS`, or the user's cache folder) whose name is bound to the coordinates: another version resolves anew,
and the broker's jars never get onto Spark's classpath. A set appears as a whole or not at all, whatever dies meanwhile, and several
processes may ask at once. Fails with JavaMissing or JarsUnavailable; after the first time no network is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.errors import SluiceError

MIN_JAVA = 17
STAMP = "COORDINATES"


class JavaMissing(SluiceError):
    """No Java, or one that is too old."""


class JarsUnavailable(SluiceError):
    """The jars are not in the cache and could not be fetched."""


@dataclass(frozen=True, slots=True)
class JarSet:
    """Coordinates (`org:module:revision`) that are resolved together. `expected`: about how many jars that gives, for the progress bar.

    `beside_pyspark`: whatever pyspark ships itself is left out, so that one version of each class is on the classpath.
    """

    name: str
    coordinates: tuple[str, ...]
    expected: int
    beside_pyspark: bool = False


# slf4j-simple is the broker's log to stderr; without a binding it says nothing at all.
KAFKA = JarSet("kafka", ("org.apache.kafka:kafka_2.13:4.2.0", "org.slf4j:slf4j-simple:1.7.36"), 46)
SPARK = JarSet(
    "spark",
    ("io.delta:delta-spark_4.2_2.13:4.4.0", "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"),
    12,
    beside_pyspark=True,
)


def kafka_jars() -> list[Path]:
    """The broker's classpath, sorted by name. Raises JavaMissing, JarsUnavailable."""
    return resolve(KAFKA)


def spark_jars() -> list[Path]:
    """What Spark needs beside pyspark's own jars: Delta and the Kafka source. Raises JavaMissing, JarsUnavailable."""
    return resolve(SPARK)


def find_java() -> Path:
    """The `java` of JAVA_HOME or else of the PATH, version 17 or newer. Raises JavaMissing, which names the installing command."""
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    found = []
    for candidate in [Path(home) / "bin" / "java" if home else None, Path(on_path) if on_path else None]:
        version = _java_version(candidate) if candidate else None
        if candidate and version is not None:
            if version >= MIN_JAVA:
                return candidate
            found.append(f"{candidate} is version {version}")
    have = f"found only: {'; '.join(found)}" if found else "none was found in JAVA_HOME or on the PATH"
    raise JavaMissing(f"Java {MIN_JAVA} or newer is needed (a JRE is enough), {have}. Install it with: {_install_command()}")


def cache_dir() -> Path:
    """Where the sets of jars lie."""
    given = os.environ.get("SLUICE_JARS")
    if given:
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "sluice" / "jars"


def resolve(jars: JarSet) -> list[Path]:
    """The files of a set, fetched first where they are not there. Raises JavaMissing, JarsUnavailable."""
    folder = cache_dir() / f"{jars.name}-{_fingerprint(jars)}"
    present = _complete(folder)
    if present:
        return present
    with _exclusive(cache_dir()):
        present = _complete(folder)
        if present:
            return present
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{jars.name}-", dir=cache_dir()) as temporary:
            made = Path(temporary) / "jars"
            made.mkdir()
            _run_ivy(jars, find_java(), Path(temporary), made)
            names = sorted(p.name for p in made.glob("*.jar"))
            (made / STAMP).write_text("\n".join([*_described(jars), "--", *names]) + "\n", encoding="utf-8")
            made.rename(folder)
    return _complete(folder) or _refuse(jars, "the folder is incomplete after fetching")


def _complete(folder: Path) -> list[Path]:
    """The jars that the stamp lists, or nothing where the stamp or one of them is missing."""
    try:
        _, _, listed = (folder / STAMP).read_text(encoding="utf-8").partition("--\n")
    except OSError:
        return []
    files = [folder / name for name in listed.split()]
    return files if files and all(f.is_file() for f in files) else []


def _described(jars: JarSet) -> list[str]:
    shipped = [f"pyspark:{importlib.metadata.version('pyspark')}"] if jars.beside_pyspark else []
    return [*jars.coordinates, *shipped]


def _fingerprint(jars: JarSet) -> str:
    return hashlib.sha256("\n".join(_described(jars)).encode()).hexdigest()[:12]


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One process fetches, the others wait for it; the lock goes with the process that held it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as exc:
        raise JarsUnavailable(f"the folder for jars, {folder}, can't be written: {exc.strerror}; set SLUICE_JARS to one that can") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pyspark_jars() -> Path:
    spec = importlib.util.find_spec("pyspark")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise JarsUnavailable("pyspark is not installed, and its Ivy is what fetches the jars; run: make install")
    return Path(next(iter(places))) / "jars"


def _ivy_file(jars: JarSet) -> str:
    """The set as Ivy's own description of a module."""
    lines = []
    for coordinate in jars.coordinates:
        org, module, revision = coordinate.split(":")
        # Only what the module needs at run time ("default" in a Maven module is compile + runtime + the jar itself).
        lines.append(f"<dependency org={quoteattr(org)} name={quoteattr(module)} rev={quoteattr(revision)} conf='default->default'/>")
    if jars.beside_pyspark:
        for jar in sorted(_pyspark_jars().glob("*.jar")):
            module = re.sub(r"-\d.*$", "", jar.stem)
            lines.append(f"<exclude org='*' module={quoteattr(module)}/>")
    body = "".join(lines)
    info = f"<info organisation='sluice' module='{jars.name}' revision='1'/><configurations><conf name='default'/></configurations>"
    return f"<ivy-module version='2.0'>{info}<dependencies>{body}</dependencies></ivy-module>"


def _run_ivy(jars: JarSet, java: Path, work: Path, target: Path) -> None:
    ivy = next(iter(sorted(_pyspark_jars().glob("ivy-*.jar"))), None)
    if ivy is None:
        raise JarsUnavailable("this pyspark ships no Ivy; install the pinned version again: make install")
    description = work / "ivy.xml"
    description.write_text(_ivy_file(jars), encoding="utf-8")
    command = [
        str(java), "-cp", str(ivy), "org.apache.ivy.Main", "-cache", str(work / "ivy"), "-ivy", str(description), "-confs", "default",
        "-types", "jar", "bundle", "-retrieve", f"{target}/[artifact]-[revision].[ext]",
    ]  # fmt: skip
    tail: deque[str] = deque(maxlen=200)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of about {task.total}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"resolving {jars.expected} jars ({jars.name}), once", total=jars.expected)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603
        try:
            assert process.stdout is not None
            for line in process.stdout:
                tail.append(line.strip())
                if "[SUCCESSFUL ]" in line:
                    progress.advance(task)
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code != 0 or not any(target.glob("*.jar")):
        _refuse(jars, _reason(tail))


def _reason(lines: deque[str]) -> str:
    """What Ivy said that matters, in one line."""
    telling = [s for s in lines if re.search(r"UNRESOLVED|not found|UnknownHost|Connection|timed? ?out|ERRORS|Server access", s, re.I)]
    return (telling or list(lines) or ["no output"])[0][:300]


def _refuse(jars: JarSet, reason: str) -> list[Path]:
    raise JarsUnavailable(
        f"the jars of {', '.join(jars.coordinates)} can't be fetched from Maven Central: {reason}. "
        f"Check the network (a proxy goes into JAVA_TOOL_OPTIONS), or copy {cache_dir()} from a machine that has it"
    )


def _java_version(java: Path) -> int | None:
    """The major version (`1.8` counts as 8), or None where this is no Java."""
    try:
        answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if answer.returncode == 0 and match else None


def _install_command() -> str:
    if sys.platform == "darwin":
        return "brew install openjdk@17"
    for tool, command in (
        ("apt-get", "sudo apt-get install -y openjdk-17-jre-headless"),
        ("dnf", "sudo dnf install -y java-17-openjdk-headless"),
        ("pacman", "sudo pacman -S jre17-openjdk-headless"),
        ("apk", "sudo apk add openjdk17-jre-headless"),
    ):
        if shutil.which(tool):
            return command
    return "your system's package manager (package openjdk 17)"
