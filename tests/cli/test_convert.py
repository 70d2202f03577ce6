"""`dragoman convert`, in this process."""

import re
from pathlib import Path

import pytest

from dragoman.checkpoints.packed_folders import open_packed
from dragoman.kernels.library import kernels
from dragoman.systems.placement import place_packed

pytestmark = pytest.mark.skipif(kernels() is None, reason="there are no native kernels here")


def test_converts_verifies_and_translates(dragoman, tmp_path: Path) -> None:
    output = tmp_path / "mini-int8"
    done = dragoman("convert", "mini", output, "--precision", "int8")
    assert (done.code, done.out, done.err) == (0, "", f"wrote {output}\n")
    verified = dragoman("convert", "--verify", output)
    assert verified.code == 0
    assert "agree with their checksums" in verified.err
    found = dragoman("translate", "-m", output, "-f", "en", "-t", "fr", "Good night.")
    assert found.code == 0
    assert found.err == ""  # no word on a precision that nobody asked for: it was, when it was converted
    assert (
        found.out
        == dragoman(
            "translate", "-m", "mini", "--precision", "int8", "-f", "en", "-t", "fr", "Good night."
        ).out
    )
    packed = open_packed(output)
    least = place_packed(packed.config, "int8", packed.bytes(), "cpu").budget.least
    scarce = packed.bytes() - packed.expert_bytes() * 2 // 3 + least
    little = dragoman("translate", "-m", output, "--memory", scarce, "-f", "en", "-t", "fr", "Good night.")
    assert little.out == found.out
    assert re.fullmatch(
        r"experts: \d+% were in memory when they were needed; .* were read from the disk, .*\n", little.err
    )
    languages = dragoman("languages", "--model", output)
    assert languages.out == dragoman("languages", "--model", "mini").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mini",), "say where to and how"),
        (("mini", "OUT"), "say where to and how"),
        (("mini", "OUT", "--precision", "int2"), "must be one of fp32, fp16, int8, int4"),
        (("--verify", "mini", "OUT"), "--verify takes"),
        (("--verify", "OUT"), "no model|no packed model|holds no"),
        (("nothing-there", "OUT", "--precision", "int8"), "is no folder and no model"),
    ],
)
def test_mistakes_end_with_two(arguments: tuple[str, ...], message: str, dragoman, tmp_path: Path) -> None:
    found = dragoman("convert", *(tmp_path / "out" if each == "OUT" else each for each in arguments))
    assert found.code == 2
    assert any(part in found.err for part in message.split("|"))
    assert not (tmp_path / "out").exists()
