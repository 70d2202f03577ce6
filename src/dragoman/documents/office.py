"""What packages of Office Open XML have in common: the kinds of their files, and which belong to which."""

import posixpath
from collections.abc import Iterator

from dragoman.documents import xml
from dragoman.documents.zipped import Package

_TYPES = "[Content_Types].xml"


def types(package: Package) -> list[tuple[str, str]]:
    """The files that are in a package and the kinds it says they are of. Raises InvalidDocument."""
    said = {about.get("PartName", "").lstrip("/"): about for about in tags(package, _TYPES, "Override")}
    others = {about.get("Extension", "").lower(): about for about in tags(package, _TYPES, "Default")}
    found = []
    for name in package.names:
        about = said.get(name) or others.get(posixpath.splitext(name)[1].lower()[1:]) or {}
        found.append((name, about.get("ContentType", "")))
    return found


def related(package: Package, name: str) -> dict[str, str]:
    """The files that a file refers to, by what it calls them. Raises InvalidDocument."""
    folder, file = posixpath.split(name)
    relations = posixpath.join(folder, "_rels", f"{file}.rels")
    if relations not in package.names:
        return {}
    targets = {}
    for about in tags(package, relations, "Relationship"):
        target = posixpath.normpath(posixpath.join("/", folder, about.get("Target", ""))).lstrip("/")
        if about.get("TargetMode") != "External" and target in package.names:
            targets[about.get("Id", "")] = target
    return targets


def tags(package: Package, name: str, wanted: str) -> Iterator[dict[str, str]]:
    """The attributes of all tags of this name in a file, whatever its prefix. Raises InvalidDocument."""
    text = xml.read(package.read(name)).text
    for token in xml.tokens(text):
        if token.kind in ("open", "empty") and token.name.rpartition(":")[2] == wanted:
            yield xml.attributes(text[token.start : token.end])
