"""Decoding on a CPU by the native kernels: the models of `models/` behind the same `begin` and `step`."""
