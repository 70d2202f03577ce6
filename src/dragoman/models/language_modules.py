"""Which language modules a model has at hand, whatever runs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.errors import LanguageModuleError

ANY = -1
"""Stands for the group of merged weights that nobody knows: rows of every group are let through."""


@dataclass
class LanguageModules:
    """Those that are attached, or merged into the weights."""

    scales: dict[int, float] = field(default_factory=dict)
    """The attached groups, and what their products are multiplied by."""
    merged: int | None = None
    """The group that the weights themselves contain; ANY if that is unknown."""
    source: Path | None = None
    """The checkpoint from which more groups can be read."""
    version: int = 0
    """Rises with every change, so that decoding under way notices."""

    def check(self, groups: Sequence[int] | None) -> None:
        """LanguageModuleError if a row needs a module that isn't there, or other weights than a merged
        group's.

        groups: one per row, 0 for none; None if no row has a module.
        """
        for group in groups or ():
            if self.merged is not None:
                if self.merged not in (ANY, group):
                    raise LanguageModuleError(
                        f"a row needs {_name(group)}, but group {self.merged} is merged into the weights; "
                        "unmerge_ the model first, or keep such rows apart"
                    )
            elif group and group not in self.scales:
                there = ", ".join(map(str, sorted(self.scales))) or "none"
                raise LanguageModuleError(
                    f"a row needs the module of group {group}, which is not attached (attached: {there}); "
                    "attach_ it, or name it when loading"
                )


def _name(group: int) -> str:
    return f"group {group}" if group else "the base without a module"
