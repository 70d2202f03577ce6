"""SentencePiece's character normalisation, by SentencePiece itself.

A model file carries its rules (in NLLB's NFKC and a few more) as a "precompiled charsmap". The
`tokenizers` library reads it too, but takes the shortest rule that begins a grapheme where
SentencePiece takes the longest. So it drops accents of decomposed Vietnamese and voicing marks of
half-width katakana, and other ids follow.
"""

# Fields of SentencePiece's NormalizerSpec, as protocol buffers number and spell them: the charsmap, then
# false for the dummy prefix, the removal of extra spaces and their escaping.
_CHARSMAP, _CHARACTERS_ONLY = b"\x12", b"\x18\x00\x20\x00\x28\x00"


class Charsmap:
    """The rules of one model file. Raises ValueError if `blob` is no precompiled charsmap."""

    def __init__(self, blob: bytes) -> None:
        from sentencepiece import SentencePieceNormalizer

        if not blob:
            raise ValueError("it is empty")
        self._blob = blob
        try:
            self._normalizer = SentencePieceNormalizer(
                normalizer_spec=_CHARSMAP + _varint(len(blob)) + blob + _CHARACTERS_ONLY
            )
        except RuntimeError as error:
            raise ValueError(str(error)) from None

    def normalize(self, text: str) -> str:
        """`text` with the rules applied from left to right, at each place the longest that fits."""
        normalized: str = self._normalizer.Normalize(text)
        return normalized

    def __reduce__(self) -> tuple[type["Charsmap"], tuple[bytes]]:
        return Charsmap, (self._blob,)


def _varint(number: int) -> bytes:
    """A length as protocol buffers write it: seven bits a byte, the lowest first."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
