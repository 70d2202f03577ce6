"""What PyTorch has to know in a forked process.

Its threads don't survive a fork: a child that shares out an operation waits for threads that aren't there.
So PyTorch works in one thread in forked children, as it does in those of its own data loader. Models import
this.
"""

import os

import torch


def _forked() -> None:
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
