"""The header `Accept`: which of two types a client takes more gladly (RFC 9110, section 12.5.1)."""


def prefers(accept: str | None, first: str, other: str) -> bool:
    """Whether it takes `first` at least as gladly as `other`; of two alike the one that it names more closely wins."""
    ranges = [_range(part) for part in ("*/*" if accept is None else accept).lower().split(",")]

    def weight(wanted: str) -> tuple[float, int]:
        kinds = (wanted, f"{wanted.partition('/')[0]}/*", "*/*")  # what is named more closely comes first
        found = dict(ranges)
        named = next((kind for kind in kinds if kind in found), None)
        return (found[named], -kinds.index(named)) if named else (0.0, -len(kinds))

    return weight(first) >= weight(other)


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.split(";"))
    quality = next((word.removeprefix("q=") for word in parameters if word.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 1.0
