"""Write docs/licences.md from the installed packages of constraints.txt: `.venv/bin/python .ci/licences.py`.

The licences are those that the packages declare. What a wheel bundles is read from its list of files, and of FFmpeg
from the library itself, because a wheel's licence says little about the libraries inside.
"""

import ctypes
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "licences.md"
CONSTRAINTS = REPOSITORY / "constraints.txt"
SAME = {"opencv-python-headless": "opencv-python", "onnxruntime-gpu": "onnxruntime"}
"""Packages of which a machine has only one; both have the same licence."""
COPYLEFT = {
    "libx264": "GPL 2 or later",
    "libx265": "GPL 2 or later",
    "libgnutls": "LGPL 2.1 or later",
    "libgmp": "LGPL 3 or later, or GPL 2 or later",
    "libnettle": "LGPL 3 or later, or GPL 2 or later",
    "libhogweed": "LGPL 3 or later, or GPL 2 or later",
    "libunistring": "LGPL 3 or later, or GPL 2 or later",
    "libasound": "LGPL 2.1 or later",
    "libmp3lame": "LGPL 2 or later",
    "libQt5": "LGPL 3",
    "libgfortran": "GPL 3 or later with the GCC Runtime Library Exception",
    "libquadmath": "LGPL 2 or later",
    "libkeyutils": "LGPL 2 or later",
}
"""Libraries in wheels that are under the GPL or LGPL, by the start of their names."""
HEAD = """\
# Licences

imgpipeline is under the [Apache License 2.0](../LICENSE). This page lists what it is installed with. It is made by
`.venv/bin/python .ci/licences.py` from the installed packages of `constraints.txt`, on Linux, and is no legal advice.

## Parts under the GPL
**The wheel of PyAV (`av`) contains x264 and x265, which are under the GPL 2 or later.** imgpipeline decodes video with
PyAV's FFmpeg, and encodes clips of events with x264. This FFmpeg calls itself {ffmpeg_licence}, but it is
configured with {ffmpeg_flags}, and linked with both.

If you only run imgpipeline, this obliges you to nothing. If you pass on an image or a machine that contains the wheel,
pass on the GPL's text and the source code of these parts, or an offer of it. A PyAV that is built against an FFmpeg
without both (`pip install --no-binary av av`) avoids this; `imgpipeline events clip` then writes GIF files only.

## Parts under another copyleft licence
The LGPL, the MPL and GCC's exception allow use in programs of any licence. A package that is not replaced has to keep
its notices, and its libraries have to stay replaceable, as they are in a Python environment.

| package | part | licence | how we know |
|---|---|---|---|
"""
TABLE = """
## All packages
*Site*: installed with `pip install imgpipeline`; the others belong to extras, tests and tools. On a machine without
libGL, `opencv-python-headless` takes the place of `opencv-python`; it bundles no Qt.

| package | version | licence | site |
|---|---|---|---|
"""


def pins() -> dict[str, str]:
    """Return the version of each package in constraints.txt."""
    lines = (line.partition("==") for line in CONSTRAINTS.read_text().splitlines())
    return {name: version for name, equals, version in lines if equals and not name.startswith("#")}


def licence_of(package: metadata.Distribution) -> str:
    """Return the licence that a package declares: as an expression, a classifier, a text, or a file."""
    about = package.metadata
    classifiers = (each for each in about.get_all("Classifier") or [] if each.startswith("License ::"))
    named = [each.rpartition(" :: ")[2] for each in classifiers if each != "License :: OSI Approved"]
    written = (about.get("License") or "").strip().partition("\n")[0]
    files = (file for file in package.files or [] if re.search(r"licen[cs]e[^/]*$", str(file), re.IGNORECASE))
    title = next((file.read_text().strip().partition("\n")[0] for file in files), "")
    return about.get("License-Expression") or "; ".join(named) or written or title


def libraries_of(package: metadata.Distribution) -> list[Path]:
    """Return the shared libraries of others that a wheel bundles."""
    return sorted(Path(str(file.locate())) for file in package.files or [] if ".libs/" in str(file))


def ffmpeg_of(package: metadata.Distribution) -> tuple[str, str] | None:
    """Return what the bundled FFmpeg says of its licence and configuration; None without one."""
    for file in libraries_of(package):
        if file.name.startswith("libavutil"):
            library = ctypes.CDLL(str(file))
            library.avutil_license.restype = library.avutil_configuration.restype = ctypes.c_char_p
            return library.avutil_license().decode(), library.avutil_configuration().decode()
    return None


def copyleft_of(name: str, package: metadata.Distribution) -> Iterator[tuple[str, str, str]]:
    """Yield each copyleft part of a package: the part, its licence, and how we know."""
    if re.search(r"GPL|MPL|Mozilla", declared := licence_of(package)):
        yield "the package", declared, "its metadata"
    if found := ffmpeg_of(package):
        yield "FFmpeg", found[0], "`avutil_license()` of the bundled library"
    bundled = {re.split(r"[-.]", file.name)[0] for file in libraries_of(package)}
    for start, licence in COPYLEFT.items():
        if parts := sorted(each for each in bundled if each.startswith(start)):
            folder = f"{name.replace('-', '_')}.libs"
            yield ", ".join(f"`{part}`" for part in parts), licence, f"the wheel bundles it in `{folder}`"


def site_packages() -> set[str]:
    """Return the packages that are installed without extras of imgpipeline."""
    known: set[tuple[str, str]] = set()
    waiting = [("imgpipeline", "")]
    while waiting:
        name, extra = waiting.pop()
        try:
            required = [Requirement(each) for each in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        known.add((name, extra))
        for each in required:
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                needed = re.sub(r"[-_.]+", "-", each.name).lower()
                waiting += {(needed, wanted) for wanted in ("", *each.extras)} - known
    return {name for name, _ in known}


def page() -> str:
    """Return the page.

    Raises:
        PackageNotFoundError: A package of constraints.txt is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    for name in pins():
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name not in SAME:
                raise
    licence, configuration = ffmpeg_of(found["av"]) or ("", "")
    flags = [f"`{flag}`" for flag in configuration.split() if flag in ("--enable-libx264", "--enable-libx265")]
    text = HEAD.format(ffmpeg_licence=f"*{licence}*", ffmpeg_flags=" and ".join(flags))
    for name, package in found.items():
        for part, its_licence, why in copyleft_of(name, package):
            text += f"| `{name}` | {part} | {its_licence} | {why} |\n"
    text += TABLE
    on_site = site_packages()
    for name, version in pins().items():
        of = SAME.get(name, name)
        text += f"| `{name}` | {version} | {licence_of(found[of])} | {'yes' if of in on_site else ''} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
