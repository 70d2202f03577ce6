"""Changes to real pairs that teach what text alone teaches badly: copying, many lengths, sloppy sources.

Whatever is copied changes on both sides alike; noise is put into the source alone. All of it depends on
nothing but the random numbers that it is given.
"""
