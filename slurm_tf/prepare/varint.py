"""Protobuf's integers of seven bits a byte: the lengths of its fields, and the values of int64."""


def encoded(number: int) -> bytes:
    """Return the bytes of a number that is not negative."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def decoded(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at byte `at`, and where the next field begins. Raises IndexError at the end."""
    if data[at] < 0x80:  # as most are
        return data[at], at + 1
    number = shift = 0
    while (byte := data[at]) > 0x7F:
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return number | byte << shift, at + 1
