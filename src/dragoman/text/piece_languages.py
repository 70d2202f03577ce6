"""Which languages the pieces of a tokenizer belong to, as far as their letters tell.

py3langid's statistics of byte n-grams say how likely each of a piece's n-grams is in each language. It is
asked here about a hundred thousand pieces at once, so its tables are read directly.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dragoman.text.langid import homes_among, identifier, label_scripts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STEP, _MOST = 0.05, 255  # surprises are kept in bytes: 0 to 12.75 in steps of 0.05
_CHUNK = 4096  # pieces scored at once, which takes some 20 MB


class PieceLanguages:
    """How well pieces (`▁` for a space) fit each language of one script that py3langid knows."""

    def __init__(self, pieces: list[str], script: str) -> None:
        """Score the pieces: 0.6 s for 100,000 of them and the eighty languages of Latin script."""
        import numpy as np

        model = identifier()
        # Two columns may have one label: py3langid has `sr` twice.
        columns = [i for i, label in enumerate(model.nb_classes) if script in label_scripts(label)]
        self._labels = [str(model.nb_classes[column]) for column in columns]
        chunks = [_surprises(pieces[i : i + _CHUNK], columns) for i in range(0, len(pieces), _CHUNK)]
        self._surprises: NDArray[np.uint8] = (
            np.concatenate(chunks) if chunks else np.zeros((0, len(columns)), np.uint8)
        )

    def surprise(self, code: str) -> "NDArray[np.float32] | None":
        """-log P(language | piece) of an NLLB code: [pieces]. None if py3langid doesn't know it."""
        import numpy as np

        own = homes_among(frozenset({code}))
        columns = [i for i, label in enumerate(self._labels) if label in own]
        if not columns:
            return None
        found = self._surprises[:, columns].astype(np.float32) * _STEP
        return -np.logaddexp.reduce(-found, axis=1)


def _surprises(pieces: list[str], columns: list[int]) -> "NDArray[np.uint8]":
    """-log P(label | piece) among the labels of some columns, in steps: [pieces, columns]."""
    import numpy as np

    model = identifier()
    features: list[int] = []
    counts: list[int] = []
    starts: list[int] = []
    for visits in _visits(pieces):
        starts.append(len(features))
        features.extend(visits)
        counts.extend(visits.values())
    weights = np.log1p(np.array(counts, np.float32))[:, None]
    table = model.nb_ptc[np.array(features, np.intp)[:, None], np.array(columns, np.intp)]
    scores = np.add.reduceat(weights * table, starts, axis=0) + model.nb_pc[columns]
    totals = np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return np.minimum((totals - scores) / _STEP, _MOST).astype(np.uint8)


def _visits(pieces: list[str]) -> Iterator[dict[int, int]]:
    """How often each feature of py3langid's table occurs in each piece."""
    from py3langid.langid import visit_counts

    model = identifier()
    rows = [row << 8 for row in model.tk_row]
    for piece in pieces:
        text = piece.replace("▁", " ").encode("utf-8")
        # A count of 0 where no n-gram is in the table, as no piece may be without a feature.
        yield visit_counts(model.tk_nextmove, rows, model.tk_output, text) or {0: 0}
