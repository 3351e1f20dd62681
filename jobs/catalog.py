"""Builds the jar behind the three-part names: compiles `java/*.java` with the Janino inside pyspark, once, into the cache of jars.

No JDK is needed, a JRE does. The jar's folder is named after the sources and the versions they were compiled against, so a change of
either builds anew; it appears as a whole or not at all. Fails with JavaMissing or JarsUnavailable, and with SluiceError where
the sources do not compile.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

import pyspark
from py4j.java_gateway import JavaGateway
from py4j.protocol import Py4JJavaError

from pipeline.errors import SluiceError
from pipeline.stack.jars import cache_dir, find_java, spark_jars

SOURCES = Path(__file__).parent / "java"
JAR = "sluice-catalog.jar"


def catalog_jar() -> Path:
    """The jar with `sluice.WarehouseCatalog` and `sluice.WarehouseExtension`; built first where it is not there."""
    sources = sorted(SOURCES.glob("*.java"))
    libraries = spark_jars()
    described = [pyspark.__version__, *(p.name for p in libraries), *(p.read_text(encoding="utf-8") for p in sources)]
    folder = cache_dir() / f"catalog-{hashlib.sha256('|'.join(described).encode()).hexdigest()[:12]}"
    jar = folder / JAR
    if jar.is_file():
        return jar
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache_dir()) as temporary:
        classes = Path(temporary) / "classes"
        classes.mkdir()
        _compile(sources, libraries, classes)
        built = Path(temporary) / JAR
        with zipfile.ZipFile(built, "w") as archive:
            for path in sorted(classes.rglob("*.class")):
                archive.write(path, path.relative_to(classes).as_posix())
        # Another process may have been quicker: then this replaces its jar by the same one.
        built.replace(jar)
    return jar


def _compile(sources: list[Path], libraries: list[Path], target: Path) -> None:
    shipped = sorted((Path(pyspark.__file__).parent / "jars").glob("*.jar"))
    gateway_jar = next(p for p in shipped if p.name.startswith("py4j-"))
    classpath = [*libraries, *shipped]
    gateway = JavaGateway.launch_gateway(
        jarpath=str(gateway_jar), classpath=":".join(map(str, classpath)), java_path=str(find_java()), die_on_exit=True
    )  # fmt: skip
    try:
        jvm = gateway.jvm

        def files(paths: list[Path]) -> object:
            array = gateway.new_array(jvm.java.io.File, len(paths))
            for i, path in enumerate(paths):
                array[i] = jvm.java.io.File(str(path))
            return array

        compiler = jvm.org.codehaus.janino.CompilerFactory().newCompiler()
        compiler.setSourceVersion(8)
        compiler.setTargetVersion(8)
        compiler.setClassPath(files(classpath))
        compiler.setDestinationDirectory(jvm.java.io.File(str(target)), False)
        compiler.compile(files(sources))
    except Py4JJavaError as exc:
        raise SluiceError(f"the catalog's Java sources in {SOURCES} do not compile: {exc.java_exception.getMessage()}") from None
    finally:
        gateway.shutdown()
