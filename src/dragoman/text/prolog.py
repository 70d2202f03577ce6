"""What stands before the first element of an XML file, looked at before anything else reads it."""

from dragoman.errors import InvalidOption

PROLOG = 1 << 20
"""Bytes within which the first element has to begin."""


class _Begun(Exception):
    """The first element."""


def refuse_entities(data: bytes) -> None:
    """Raise InvalidOption if a file that begins so declares entities: they can make gigabytes of a few bytes.

    Whatever its encoding is; what is wrong otherwise is left to the real parser.
    """
    from xml.parsers import expat

    def entity(*declaration: object) -> None:
        raise InvalidOption("declares entities, for which there is no use here")

    def element(*start: object) -> None:
        raise _Begun

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = element
    try:
        parser.Parse(data[:PROLOG], False)
    except (_Begun, expat.ExpatError, LookupError, ValueError) as found:
        if isinstance(found, InvalidOption):
            raise
        return
    if len(data) >= PROLOG:
        raise InvalidOption(f"has no element in its first {PROLOG >> 20} MB")
