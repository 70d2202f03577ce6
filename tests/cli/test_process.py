"""What only a process can show: signals, terminals, readers and writers that stay or go."""

import os
import select
import signal
import subprocess
import sys
import termios

import pytest

TRANSLATE = ("translate", "-f", "en", "-t", "fr")
PATIENCE = 120  # seconds, on a machine with other things to do


def ended(process) -> tuple[int, bytes, str]:
    """Its exit status and what it has written, with its standard input still open."""
    stdin, process.stdin = process.stdin, None
    out, err = process.communicate(timeout=PATIENCE)
    if stdin:
        stdin.close()
    assert b"Fatal Python error" not in err
    assert b"Traceback" not in err
    return process.returncode, out, err.decode()


def feed(process, line: bytes) -> bytes:
    """Write a line, and wait for its translation."""
    process.stdin.write(line)
    process.stdin.flush()
    assert select.select([process.stdout], [], [], PATIENCE)[0]
    return process.stdout.readline()


def test_a_slow_writer_is_answered_line_by_line(process):
    one = process(*TRANSLATE)
    for line in (b"Good night.\n", b"\xff\n", b"I am tired.\n"):
        assert feed(one, line).strip() or line == b"\xff\n"
    one.stdin.close()
    assert one.wait(PATIENCE) == 1


def test_how_lines_arrive_changes_nothing(process, tmp_path):
    lines = [
        b"Anna Schmidt\n",
        b"Guten Morgen, meine Damen und Herren.\n",
        b"Peter\n",
        b"Buenos dias, amigo.\n",
    ]
    lines += [b"Maria\n"] * 4
    path = tmp_path / "in.txt"
    path.write_bytes(b"".join(lines))
    whole = ended(process("translate", "-t", "en", "-i", path))
    slow = process("translate", "-t", "en")
    out = [feed(slow, line) for line in lines]
    slow.stdin.close()
    slow.stdin = None
    code, rest, err = ended(slow)
    assert (code, b"".join(out) + rest, err) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_standard_input_is_open_ends_it_quietly(process, number):
    one = process(*TRANSLATE)
    assert feed(one, b"Good night.\n")
    one.send_signal(number)
    code, _, err = ended(one)
    assert code == 128 + number
    assert err in ("interrupted\n", "stopped\n")


def test_ctrl_c_at_a_terminal_ends_it_quietly(process):
    master, slave = os.openpty()
    one = process(*TRANSLATE, stdin=slave, start_new_session=True, preexec_fn=_take_terminal)
    os.close(slave)
    assert one.stderr.readline() == b"reading standard input; end with Ctrl-D\n"
    os.write(master, b"Good night.\n")
    assert one.stdout.readline().strip()
    os.write(master, b"\x03")
    code, _, err = ended(one)
    assert (code, err) == (130, "interrupted\n")
    os.close(master)


def test_ctrl_d_at_a_terminal_is_the_end(process):
    master, slave = os.openpty()
    one = process(*TRANSLATE, stdin=slave, start_new_session=True, preexec_fn=_take_terminal)
    os.close(slave)
    assert one.stderr.readline()
    os.write(master, b"Good night.\n\x04")
    code, out, _ = ended(one)
    assert (code, out.count(b"\n")) == (0, 1)
    os.close(master)


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_an_error_while_standard_input_is_open_is_one_line(process):
    one = process("translate", "-f", "en")  # the target would be English too
    one.stdin.write(b"Good night.\n")
    one.stdin.flush()
    code, _, err = ended(one)
    assert code == 2
    assert err.startswith("error: the text is English already")


def test_a_reader_that_goes_away_ends_it_quietly_while_the_writer_stays(process):
    one = process(*TRANSLATE)
    assert feed(one, b"Good night.\n")
    one.stdout.close()
    one.stdout = None
    one.stdin.write(b"I am tired.\n")
    one.stdin.flush()
    stdin, one.stdin = one.stdin, None
    err = one.stderr.read()
    assert (one.wait(PATIENCE), err) == (141, b"")
    stdin.close()


@pytest.mark.parametrize("command", ["languages", "languages --json"])
def test_head_ends_a_list_quietly(command):
    script = f"{sys.executable} -m dragoman {command} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stderr == ""
    # A list that fits into the pipe may be there before its reader has gone.
    assert done.stdout.splitlines()[1] in ("0", "141")


def test_a_list_on_a_full_disk_is_one_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dragoman", "languages"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    assert (done.returncode, done.stderr) == (2, b"error: No space left on device: standard output\n")


def test_standard_input_that_is_closed_is_one_line():
    script = f"{sys.executable} -m dragoman translate -f en -t fr <&-"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (2, "error: standard input is closed; give texts or --input\n")


def test_import_is_light():
    heavy = "('torch', 'transformers', 'numpy')"
    code = f"import sys, dragoman, dragoman.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
