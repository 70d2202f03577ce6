"""M2M-100's tokenizer, which is SMaLL-100's too: text to the ids of M2M-100 and back.

A SentencePiece model cuts the text, `vocab.json` numbers the pieces. Which id means what:

| ids        | meaning                                                          |
|------------|------------------------------------------------------------------|
| 0 1 2 3    | `<s>` `<pad>` `</s>` `<unk>`                                     |
| 4 .. V-1   | pieces, as vocab.json numbers them                               |
| V .. V+99  | the languages, `__af__` to `__zu__`, in the published order      |
| V+100 ..   | eight rows of the embedding without a token (`madeupword0000` on) |

V is how many entries vocab.json has: 128004 as published.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError
from dragoman.files import read_json, write_json
from dragoman.languages import Language, of_code
from dragoman.text.tokenizers.added import CONFIG_NAME, listed_in, named_in
from dragoman.text.tokenizers.backends import SPM_NAME
from dragoman.text.tokenizers.layout import SPECIALS, UNK
from dragoman.text.tokenizers.libraries import cut_sentencepiece, open_sentencepiece
from dragoman.text.tokenizers.multilingual import MultilingualTokenizer

VOCABULARY_NAME = "vocab.json"
_PAIRS = """
af:afr_Latn am:amh_Ethi ar:arb_Arab ast:ast_Latn az:azj_Latn ba:bak_Cyrl be:bel_Cyrl bg:bul_Cyrl
bn:ben_Beng br:bre_Latn bs:bos_Latn ca:cat_Latn ceb:ceb_Latn cs:ces_Latn cy:cym_Latn da:dan_Latn
de:deu_Latn el:ell_Grek en:eng_Latn es:spa_Latn et:est_Latn fa:pes_Arab ff:fuv_Latn fi:fin_Latn
fr:fra_Latn fy:fry_Latn ga:gle_Latn gd:gla_Latn gl:glg_Latn gu:guj_Gujr ha:hau_Latn he:heb_Hebr
hi:hin_Deva hr:hrv_Latn ht:hat_Latn hu:hun_Latn hy:hye_Armn id:ind_Latn ig:ibo_Latn ilo:ilo_Latn
is:isl_Latn it:ita_Latn ja:jpn_Jpan jv:jav_Latn ka:kat_Geor kk:kaz_Cyrl km:khm_Khmr kn:kan_Knda
ko:kor_Hang lb:ltz_Latn lg:lug_Latn ln:lin_Latn lo:lao_Laoo lt:lit_Latn lv:lvs_Latn mg:plt_Latn
mk:mkd_Cyrl ml:mal_Mlym mn:khk_Cyrl mr:mar_Deva ms:zsm_Latn my:mya_Mymr ne:npi_Deva nl:nld_Latn
no:nob_Latn ns:nso_Latn oc:oci_Latn or:ory_Orya pa:pan_Guru pl:pol_Latn ps:pbt_Arab pt:por_Latn
ro:ron_Latn ru:rus_Cyrl sd:snd_Arab si:sin_Sinh sk:slk_Latn sl:slv_Latn so:som_Latn sq:als_Latn
sr:srp_Cyrl ss:ssw_Latn su:sun_Latn sv:swe_Latn sw:swh_Latn ta:tam_Taml th:tha_Thai tl:tgl_Latn
tn:tsn_Latn tr:tur_Latn uk:ukr_Cyrl ur:urd_Arab uz:uzn_Latn vi:vie_Latn wo:wol_Latn xh:xho_Latn
yi:ydd_Hebr yo:yor_Latn zh:zho_Hans zu:zul_Latn
"""
M2M100_LANGUAGES: Mapping[str, str] = dict(pair.split(":") for pair in _PAIRS.split())
"""M2M-100's languages in the order of their ids: its code, and the code they have in the language table."""
LANGUAGE_TOKENS = tuple(f"__{code}__" for code in M2M100_LANGUAGES)
FILLING = tuple(f"madeupword{place:04d}" for place in range(8))


@dataclass(frozen=True)
class M2m100Layout:
    """The ids that follow from the number of entries of vocab.json."""

    vocabulary: int
    """V above."""

    @cached_property
    def languages(self) -> dict[str, int]:
        """The id of each language by its code in the language table."""
        return {code: self.vocabulary + place for place, code in enumerate(M2M100_LANGUAGES.values())}

    @property
    def taught(self) -> tuple[str, ...]:
        """Nothing was added: tokenizers with more tokens are refused."""
        return ()

    @property
    def tokens(self) -> int:
        return self.vocabulary + len(LANGUAGE_TOKENS)

    @property
    def needed(self) -> int:
        return self.tokens

    @property
    def rows(self) -> int:
        return self.tokens + len(FILLING)

    @cached_property
    def piece_ids(self) -> range:
        return range(UNK + 1, self.vocabulary)

    def never_generated(self, rows: int) -> tuple[int, ...]:
        """Of a model's rows those without a token."""
        return tuple(range(self.tokens, rows))


class M2m100Cutter:
    """Reads `sentencepiece.bpe.model` and `vocab.json`."""

    def __init__(self, folder: Path) -> None:
        self._processor = open_sentencepiece(folder / SPM_NAME)
        self.names = _read_vocabulary(folder / VOCABULARY_NAME)
        # A piece spelled like a special token is text, and text can't be one.
        self._ids = {name: place for place, name in enumerate(self.names) if place > UNK}

    def encode(self, texts: list[str]) -> list[list[int]]:
        # By name: the vocabulary may number characters that SentencePiece doesn't know.
        known = self._ids
        return [
            [known.get(piece, UNK) for piece in row] for row in cut_sentencepiece(self._processor, texts, str)
        ]

    def save(self, folder: Path) -> None:
        (folder / SPM_NAME).write_bytes(self._processor.serialized_model_proto())
        write_json(folder / VOCABULARY_NAME, {name: place for place, name in enumerate(self.names)})


class M2m100Tokenizer(MultilingualTokenizer):
    """Encodes sources as `[language] X </s>`, targets likewise, and decodes either.

    For a source SMaLL-100 wants the language of the target. Besides what `dragoman.languages.find`
    knows, M2M-100's own codes (`ns`) say a language.
    """

    layout: M2m100Layout
    _backend: M2m100Cutter

    def __init__(
        self, cutter: M2m100Cutter, src_lang: str | None = None, tgt_lang: str | None = None
    ) -> None:
        self.layout = M2m100Layout(len(cutter.names))
        self._backend = cutter
        super().__init__(src_lang, tgt_lang)

    @classmethod
    def from_folder(
        cls, folder: str | Path, src_lang: str | None = None, tgt_lang: str | None = None
    ) -> "M2m100Tokenizer":
        """Open sentencepiece.bpe.model and vocab.json; CheckpointError if they aren't as M2M-100's."""
        folder = Path(folder)
        for name in (SPM_NAME, VOCABULARY_NAME):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} has no tokenizer of M2M-100: {name} is not in it")
        made = cls(M2m100Cutter(folder), src_lang, tgt_lang)
        _check_added(folder, made.layout)
        return made

    def code(self, language: str) -> str:
        return M2M100_LANGUAGES.get(language) or super().code(language)

    def _among(self) -> Collection[Language]:
        return tuple(map(of_code, self.layout.languages))

    @cached_property
    def _tokens(self) -> list[str]:
        return [*self._backend.names, *LANGUAGE_TOKENS, *FILLING]


def _read_vocabulary(path: Path) -> list[str]:
    """The names of vocab.json in the order of their ids, which are those from 0 on without gaps."""
    data = read_json(path, CheckpointError)
    names = sorted(data, key=lambda name: data[name] if isinstance(data[name], int) else -1)
    if [data[name] for name in names] != list(range(len(names))):
        raise CheckpointError(f"{path} doesn't number its pieces from 0 on without gaps. Download it again")
    if tuple(names[: len(SPECIALS)]) != SPECIALS:
        raise CheckpointError(
            f"{path} begins with {', '.join(names[: len(SPECIALS)])}; M2M-100's begins with "
            f"{', '.join(SPECIALS)}"
        )
    if clash := set(names) & {*LANGUAGE_TOKENS, *FILLING}:
        raise CheckpointError(
            f"{path} gives {min(clash)} an id of its own; in M2M-100's layout it comes after all pieces"
        )
    return names


def _check_added(folder: Path, layout: M2m100Layout) -> None:
    """CheckpointError if the other files know tokens or languages that M2M-100 hasn't got."""
    codes = _config_of(folder).get("language_codes") or "m2m100"
    if codes != "m2m100":
        raise CheckpointError(
            f"{folder}: language_codes is {codes!r} in {CONFIG_NAME}. Only models with M2M-100's hundred "
            "languages ('m2m100') are supported"
        )
    places = dict(enumerate(SPECIALS)) | dict(enumerate((*LANGUAGE_TOKENS, *FILLING), layout.vocabulary))
    for place, token in listed_in(folder).items():
        if places.get(place) != token.content:
            raise CheckpointError(
                f"{folder}: the token {token.content!r} has the id {place}, which M2M-100's layout with "
                f"{layout.vocabulary} pieces doesn't give it; tokens added to M2M-100's are not supported"
            )
    if strange := set(named_in(folder)) - set(places.values()):
        raise CheckpointError(
            f"{folder} lists the special token {min(strange)!r}, which M2M-100 hasn't got; tokens added to "
            "M2M-100's are not supported"
        )


def _config_of(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG_NAME
    return read_json(path, CheckpointError) if path.is_file() else {}
