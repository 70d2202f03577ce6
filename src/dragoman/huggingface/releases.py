"""Which releases of transformers the faces were tried with: those that the package asks for."""

import warnings
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import Requirement


def warn_of_untried_release() -> None:
    """One line if the installed transformers is outside the range that this package declares."""
    try:
        declared = metadata.requires("dragoman") or ()
    except metadata.PackageNotFoundError:  # run from its source
        return
    message = untried_release(metadata.version("transformers"), declared)
    if message is not None:
        warnings.warn(message, stacklevel=3)


def untried_release(installed: str, declared: Iterable[str]) -> str | None:
    """What to say about the release `installed`; None if one of `declared` allows it, or none asks."""
    asked = [requirement for requirement in map(Requirement, declared) if requirement.name == "transformers"]
    if not asked or any(each.specifier.contains(installed, prereleases=True) for each in asked):
        return None
    return (
        f"dragoman was tried with transformers{asked[0].specifier}, and {installed} is installed: "
        "compare some results, or install a release of that range"
    )
