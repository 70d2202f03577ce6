"""Beam search, with the results of transformers' `generate` (4.57 and later) sentence by sentence."""

from collections.abc import Sequence

import numpy as np

from dragoman.generation.hypotheses import Array, History, Hypothesis, common_prefix, stacked, wider
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import (
    Scores,
    adjust,
    log_softmax,
    needs_all_scores,
    repeated_tokens,
    row_parts,
    topk,
)
from dragoman.generation.terms import Terms, Wanted

SPARE = 8
"""How many more candidates than needed are looked at where some may be banned for repeating."""

# Worse than any real score: those of long sentences under negative length penalties are astronomic.
WORST = -np.inf


class BeamSearch:
    """Keeps the best `beams` unfinished hypotheses of each sentence, and its best finished ones.

    Sentences may be of different lengths; each leaves as soon as nothing can change its result.
    The first step looks at one row per sentence: its beams would all be alike.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        options: GenerationOptions,
        forced: int,
        eos: int,
        limits: Sequence[int] | None = None,
        keys: Sequence[int] | None = None,
        terms: Sequence[Terms | None] = (),
    ) -> None:
        """prompts: of each sentence, of which the last `forced` tokens count as generated.

        limits: the most tokens of each, if they differ; keys: what each is called in `done`; terms: what the
        translation of each is to have, if there is any.
        """
        sentences, beams = len(prompts), options.beams
        self.options, self.eos = options, eos
        self.width = 1
        self.keys = list(range(sentences)) if keys is None else list(keys)
        self.done: dict[int, list[Hypothesis]] = {}
        self._history = History(prompts, forced, needs_all_scores(options))
        self._limits: Array = np.array([options.max_new_tokens] * sentences if limits is None else limits)
        self._scores: Array = np.zeros((sentences, 1), np.float32)
        # Finished hypotheses, best first, and where each ends; what there is not has the worst score.
        self._best: Array = np.zeros((sentences, beams, 0), np.int64)
        self._best_ends: Array = np.zeros((sentences, beams), np.int64)
        self._best_scores: Array = np.full((sentences, beams), WORST)
        self._wanted = {key: Wanted(each) for key, each in zip(self.keys, terms, strict=False) if each}

    def advance(self, scores: Scores) -> tuple[Array | None, Array] | None:
        """Extend every beam; returns (rows of the old beams, tokens [rows, 1]), None at the end.

        The rows are None where all stay as they are.
        """
        beams, sentences = self.options.beams, len(self.keys)
        values, tokens = self._candidates(scores)
        count = values.shape[1]
        totals = (values + self._scores.reshape(-1, 1)).reshape(sentences, -1)
        # Twice as many as needed: were all `beams` best ones to end, as many would go on.
        order = np.argsort(-totals, axis=1, kind="stable")[:, : 2 * beams]
        order += np.arange(sentences)[:, None] * totals.shape[1]
        top, token, origin = totals.take(order), tokens.take(order), order // count
        if top.shape[1] < beams:  # a vocabulary smaller than the beam
            more = ((0, 0), (0, beams - top.shape[1]))
            top = np.pad(top, more, constant_values=WORST)
            token, origin = np.pad(token, more), np.pad(origin, more, mode="edge")
        generated = self._history.generated[:: self.width] + 1.0
        if self._wanted:
            chosen = self._with_terms(scores, values, tokens, generated)
            top, token, origin = self._replaced(top, token, origin, chosen)
        ends = (token == self.eos) | (generated >= self._limits)[:, None]
        self._finish(top, origin, token, ends, generated)

        if ends.any():
            picks = np.argsort(ends, axis=1, kind="stable")[:, :beams]
            picks += np.arange(sentences)[:, None] * top.shape[1]
            running = np.where(ends.take(picks), np.float32(WORST), top.take(picks))
            origin, token = origin.take(picks), token.take(picks)
        else:
            running, origin, token = top[:, :beams], origin[:, :beams], token[:, :beams]
        if self._wanted:
            self._go_on(origin, token)
        present = len(self._history.lengths)
        self._scores, self.width = running, beams
        self._history.extend(origin.ravel(), token.ravel())
        settled = self._settled(generated)
        if settled.any():
            kept = self._retire(settled)
            origin, token = origin[kept], token[kept]
        if not self.keys:
            return None
        rows = origin.ravel()
        same = len(rows) == present and bool((rows == np.arange(present)).all())
        return None if same else rows, token.reshape(-1, 1)

    def _candidates(self, scores: Scores) -> tuple[Array, Array]:
        """Each row's best log-probabilities [rows, count] and their tokens, after penalties and bans."""
        count, options = 2 * self.options.beams, self.options
        if options.repetition_penalty != 1.0:
            history = self._history.aligned()
            return self._looked_through(scores, np.arange(scores.rows), history, count)
        if options.no_repeat_ngram:
            return self._without_repeats(scores, count)
        return scores.top(count, options.suppress)

    def _without_repeats(self, scores: Scores, count: int) -> tuple[Array, Array]:
        """The best of each row that complete no n-gram twice. Few would, so a few to spare will do."""
        history = self._history.aligned()
        values, tokens = scores.top(count + SPARE, self.options.suppress)
        repeated = repeated_tokens(history, self.options.no_repeat_ngram)
        if not repeated.shape[1]:
            return values[:, :count], tokens[:, :count]
        values = np.where((tokens[:, :, None] == repeated[:, None]).any(-1), WORST, values)
        order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        values, tokens = np.take_along_axis(values, order, 1), np.take_along_axis(tokens, order, 1)
        crowded = np.flatnonzero((repeated >= 0).sum(1) > SPARE)
        if len(crowded):
            values[crowded], tokens[crowded] = self._looked_through(scores, crowded, history, count)
        return values, tokens

    def _looked_through(self, scores: Scores, rows: Array, history: Array, count: int) -> tuple[Array, Array]:
        """The best of these rows after a look at the scores of all tokens."""
        found = [self._adjusted(scores, part, history, count) for part in row_parts(rows)]
        values, tokens = (np.concatenate(side) for side in zip(*found, strict=True))
        return values, tokens

    def _adjusted(self, scores: Scores, rows: Array, history: Array, count: int) -> tuple[Array, Array]:
        log_p = log_softmax(scores.logits(rows))
        return topk(adjust(log_p, history[rows], self.options), count)

    # Terms

    def _with_terms(
        self, scores: Scores, values: Array, tokens: Array, generated: Array
    ) -> dict[int, list[tuple[float, int, int]]]:
        """The candidates (total, token, beam) of sentences with terms, by their places."""
        width, found = self.width, {}
        for place, key in enumerate(self.keys):
            if key not in self._wanted:
                continue
            rows = np.arange(place * width, (place + 1) * width)
            found[place] = self._wanted[key].candidates(
                (values[rows], tokens[rows]),
                log_softmax(scores.logits(rows)),
                self._scores[place],
                self.eos,
                2 * self.options.beams,
                banned=self.options.suppress,
                is_last=bool(generated[place] >= self._limits[place]),
                has_one=bool(self._best_scores[place, 0] > WORST),
            )
        return found

    def _replaced(
        self, top: Array, token: Array, origin: Array, chosen: dict[int, list[tuple[float, int, int]]]
    ) -> tuple[Array, Array, Array]:
        """Candidates [sentences, most] with those of some sentences replaced."""
        most = max(top.shape[1], *(len(each) for each in chosen.values()))
        more = ((0, 0), (0, most - top.shape[1]))
        top = np.pad(top, more, constant_values=WORST)
        token, origin = np.pad(token, more), np.pad(origin, more, mode="edge")
        for place, candidates in chosen.items():
            first, count = place * self.width, len(candidates)
            top[place], token[place], origin[place] = WORST, 0, first
            if count:
                totals, tokens, beams = zip(*candidates, strict=True)
                top[place, :count], token[place, :count] = totals, tokens
                origin[place, :count] = first + np.array(beams)
        return top, token, origin

    def _go_on(self, origin: Array, token: Array) -> None:
        """Let the terms know which beams go on, and with what."""
        for place, key in enumerate(self.keys):
            if key in self._wanted:
                beams = (origin[place] - place * self.width).tolist()
                self._wanted[key].keep(beams, token[place].tolist())

    # Ends

    def _finish(self, top: Array, origin: Array, token: Array, ends: Array, generated: Array) -> None:
        """Merge hypotheses that ended now into the finished ones, the best `beams` stay."""
        beams = self.options.beams
        # One that ends outside the best `beams` is not good enough.
        fresh = ends[:, :beams] & (top[:, :beams] > WORST)
        some = np.flatnonzero(fresh.any(1))
        if not len(some):
            return
        scores = top[some, :beams] / generated[some, None] ** self.options.length_penalty
        scores = np.concatenate([self._best_scores[some], np.where(fresh[some], scores, WORST)], 1)
        picks = np.argsort(-scores, axis=1, kind="stable")[:, :beams]
        lines = self._history.extended(origin[some, :beams].ravel(), token[some, :beams].ravel())
        lines = lines.reshape(len(some), beams, -1)
        if self._best.shape[2] < lines.shape[2]:
            self._best = wider(self._best, lines.shape[2])
        elif lines.shape[2] < self._best.shape[2]:
            lines = wider(lines, self._best.shape[2])
        ended = self._history.lengths[:: self.width][some, None] + np.ones((1, beams), np.int64)
        ended = np.concatenate([self._best_ends[some], ended], 1)
        self._best[some] = np.take_along_axis(
            np.concatenate([self._best[some], lines], 1), picks[..., None], 1
        )
        self._best_ends[some] = np.take_along_axis(ended, picks, 1)
        self._best_scores[some] = np.take_along_axis(scores, picks, 1)

    def _settled(self, generated: Array) -> Array:
        """Boolean [sentences]: no running hypothesis can still enter the finished ones."""
        options, best = self.options, self._scores.max(1)
        worst = self._best_scores[:, -1]
        if self._wanted:  # for whom one that has all terms is enough, unless a better one can come
            places = [place for place, key in enumerate(self.keys) if key in self._wanted]
            worst = worst.copy()
            worst[places] = self._best_scores[places, 0]
        over = (best == WORST) | (generated >= self._limits)
        if options.early_stopping is True:
            return over | (worst > WORST)
        lengths = generated
        if options.early_stopping == "never" and options.length_penalty > 0:
            lengths = self._limits
        possible = best / lengths**options.length_penalty
        return over | ((worst > WORST) & (possible <= worst))

    def _retire(self, settled: Array) -> Array:
        """Move settled sentences to `done`; returns the places of the others."""
        for place in np.flatnonzero(settled).tolist():
            self.done[self.keys[place]] = self._ranked(place)
            self._wanted.pop(self.keys[place], None)
        kept = np.flatnonzero(~settled)
        self._keep(kept)
        return kept

    def _ranked(self, place: int) -> list[Hypothesis]:
        start = int(self._history.starts[place * self.width])
        return [
            Hypothesis(tuple(line[start:end].tolist()), score)
            for line, end, score in zip(
                self._best[place, : self.options.n_best],
                self._best_ends[place].tolist(),
                self._best_scores[place].tolist(),
                strict=False,
            )
            if score > WORST
        ]

    def _keep(self, places: Array) -> Array:
        """Keep the sentences at these places; returns their rows."""
        rows = (places[:, None] * self.width + np.arange(self.width)).ravel()
        self._history.select(rows)
        self.keys = [self.keys[place] for place in places.tolist()]
        self._limits, self._scores = self._limits[places], self._scores[places]
        self._best, self._best_ends = self._best[places], self._best_ends[places]
        self._best_scores = self._best_scores[places]
        return rows

    def drop(self, keys: set[int]) -> Array:
        """Give up the sentences of these keys; returns the rows of the others."""
        places = [place for place, key in enumerate(self.keys) if key not in keys]
        self._wanted = {key: wanted for key, wanted in self._wanted.items() if key not in keys}
        return self._keep(np.array(places, np.int64))

    def join(self, other: "BeamSearch") -> None:
        """Put the sentences of `other` behind these; both have made a step, and have the same options."""
        assert self.width == other.width, "a search can join once it has made a step"
        self._history.join(other._history)
        self.keys += other.keys
        self._limits = np.concatenate([self._limits, other._limits])
        self._scores = np.concatenate([self._scores, other._scores])
        self._wanted |= other._wanted
        self._best = stacked(self._best, other._best)
        self._best_ends = np.concatenate([self._best_ends, other._best_ends])
        self._best_scores = np.concatenate([self._best_scores, other._best_scores])

    def certain(self, key: int) -> list[int]:
        """The tokens with which the best hypothesis of a sentence begins, whatever comes."""
        if key in self.done:
            return list(self.done[key][0].tokens) if self.done[key] else []
        place = self.keys.index(key)
        first = place * self.width
        best = float(self._best_scores[place, 0])
        lines = [h.tokens for h in self._ranked(place)[:1]]
        # The best that a running one can come to: its log-probability only falls.
        penalty = self.options.length_penalty
        length = self._limits[place] if penalty > 0 else self._history.generated[first] + 1
        for beam, score in enumerate(self._scores[place].tolist()):
            if score > WORST and score / float(length) ** penalty > best:
                lines.append(tuple(self._history.of(first + beam)))
        return common_prefix(lines)
