"""The target-language vocabulary of a tokenizer, as the native output layer asks for it."""

from collections.abc import Mapping, Sequence

from dragoman.languages import of_code
from dragoman.text.tokenizers import MultilingualTokenizer
from dragoman.text.vocabulary import source_tokens, target_vocabulary


class TargetVocabulary:
    """Which tokens a language may need, and which ones a source sentence brings along."""

    def __init__(
        self,
        tokenizer: MultilingualTokenizer,
        size: int | None,
        texts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """size: tokens for a language; texts: by any spelling of a language, lines written in it.

        Raises UnknownLanguage, and InvalidOption or InvalidText for a strange size or text.
        """
        self._tokenizer, self._size = tokenizer, size
        self._texts = {tokenizer.code(name): lines for name, lines in (texts or {}).items()}
        self._codes = {token: code for code, token in tokenizer.layout.languages.items()}
        self._known: dict[int, list[int]] = {}
        for code in ("eng_Latn", *self._texts):  # what is wrong should show at once
            self.tokens(tokenizer.language_id(code))

    def tokens(self, language: int) -> list[int]:
        """Those of the language with this token, sorted."""
        found = self._known.get(language)
        if found is None:
            code = self._codes[language]
            chosen = target_vocabulary(self._tokenizer, of_code(code), self._size, self._texts.get(code))
            found = self._known[language] = chosen
        return found

    def source(self, tokens: Sequence[int]) -> list[int]:
        """What a translation of these tokens may copy."""
        return source_tokens(self._tokenizer, tokens)
