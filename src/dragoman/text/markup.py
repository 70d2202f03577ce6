"""What in a text is no language: addresses, placeholders, tags, names of files and of things in programs.

A translation has to keep it as it is, and a text of nothing else needs none.
"""

import regex

# Bounded, so that hostile text costs nothing.
_ADDRESS = r"""(?:(?:https?|ftp)://|www\.|mailto:)[!#-;=?-~]+|[\w.+-]{1,64}@[a-zA-Z0-9-]{1,63}(?:\.[a-zA-Z0-9-]{1,63})+"""
_TAG = r"</?[a-zA-Z][\w:-]{0,40}(?:\s[^<>]{0,400})?/?>|&(?:[a-zA-Z]{2,10}|#\d{1,6}|#[xX][0-9a-fA-F]{1,5});"
_PLACEHOLDER = (
    r"[$%#]?\{\{?[^{}\s]{0,60}\}?\}|\{\{ ?[^{}]{1,60} ?\}\}|\{%[^{}]{1,200}%\}|\[\[[^\[\]]{1,60}\]\]"
    r"|\$t\([^()\s]{1,100}\)"
    r"|\{\w{1,40}, ?(?:plural|select|selectordinal),"  # of ICU, whose words behind it are for translation
    r"|%\([A-Za-z_]\w{0,40}\)[#0 +-]?\d*(?:\.\d+)?[a-zA-Z]|%%|%[A-Z_]{2,40}%"
    r"|%(?:\d+\$)?[+-]?\d*(?:\.\d+)?(?:hh?|ll?)?[sdiufgxXc@](?![A-Za-z])"
    r"|\$[A-Za-z_]\w{0,40}\$?|(?<!\w):[a-z_]{2,40}:|__[A-Za-z0-9_]{1,40}__"
)
_KEPT = regex.compile(rf"(?P<address>{_ADDRESS})|{_TAG}|{_PLACEHOLDER}")
_MARKS = frozenset("{}<>%$@&_:[")
# What ends an address belongs to the sentence.
_TRAILING = ".,;:!?'\")]}»”’"

# What programs are made of; such words are left out of `kept`, as a translation may well inflect them.
_CODE = regex.compile(
    r"(?<![^\s(\[\"'`=,])(?:"
    r"[A-Za-z]:\\\S*|(?:~|\.{1,2})?/[\w.~/-]+|[\w-]+(?:/[\w.-]+)+\.\w{1,5}"  # paths
    r"|--?[a-z][\w-]*(?:=\S*)?"  # options
    r"|[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+|[\w.]+\(\)|\w+(?:(?:::|->)\w+)+"  # names of programs
    r"|[\w-]+\.(?:txt|md|pdf|docx?|xlsx?|pptx?|csv|json|xml|ya?ml|toml|html?|css|jsx?|tsx?|py|c|h|cpp|rs|go|java"
    r"|sh|exe|dll|zip|gz|png|jpe?g|gif|svg|mp[34]|wav|com|org|net)"  # files and hosts
    r"|[vV]?\d+(?:\.\d+)+[a-z]?\d*|[A-Z]{2,}-\d+|\#?(?=[0-9a-fA-F-]*\d)[0-9a-fA-F-]{6,}"  # versions, keys
    r")(?![^\s)\]\"'`,.;:!?=])"
)


# All code has one of these; and most texts have a word without any.
_HINT = regex.compile(r"[\\/_()#\d-]|\w\.\w|::")
_WORD = regex.compile(r"(?<!\S)\p{L}{2,}(?=[.,!?;:…]*(?:\s|$))")


def kept(text: str) -> list[str]:
    """The addresses, tags and placeholders of a text, in their order."""
    return [text[start:end] for start, end in kept_spans(text)]


def kept_spans(text: str) -> list[tuple[int, int]]:
    """Where the addresses, tags and placeholders of a text begin and end."""
    if not _may_have_marks(text):
        return []
    found = _KEPT.finditer(text)
    return [
        (match.start(), match.start() + len(match[0].rstrip(_TRAILING)) if match["address"] else match.end())
        for match in found
    ]


def prose(text: str) -> str:
    """A text without its addresses, tags, placeholders and code, for each of which there is a space."""
    rest = _KEPT.sub(" ", text) if _may_have_marks(text) else text
    return _CODE.sub(" ", rest) if _HINT.search(rest) else rest


def is_language(text: str) -> bool:
    """Whether a text has a word to translate, besides addresses, placeholders, tags and code."""
    if not _may_have_marks(text) and _WORD.search(text):
        return True
    return any(map(str.isalpha, text)) and any(map(str.isalpha, prose(text)))


def _may_have_marks(text: str) -> bool:
    return not _MARKS.isdisjoint(text) or "www." in text
