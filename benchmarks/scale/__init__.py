"""What a corpus costs on machines that aren't here: `dragoman bulk` simulated, and how far to trust it.

    python -m benchmarks.scale validate    measures one process, predicts 1, 2 and 4, runs them, compares
    python -m benchmarks.scale plan        hours, machine hours and money for a corpus, by number of workers
    python -m benchmarks.scale hazards     what slow machines, failures, mixtures, blocks and stores cost
    python -m benchmarks.scale shapes      bytes and operations of published models against measured steps

Each prints a table and one JSON line last. docs/scale.md says what is modelled, and what is not.
"""
