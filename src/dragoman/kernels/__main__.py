"""`python -m dragoman.kernels`: which build of the kernels runs here; status 1 if there is none."""

import sys

from dragoman.kernels.library import kernels

found = kernels()
print("none" if found is None else found.isa)
sys.exit(found is None)
