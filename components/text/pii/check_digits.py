"""Check digits of cards, accounts and identity numbers, given without separators."""

from __future__ import annotations

_VERHOEFF_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_EAN_WEIGHTS = (1, 3)


def luhn_holds(digits: str) -> bool:
    """ISO/IEC 7812-1: every second digit from the right doubled, the digit sum divides by 10."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        digit = int(character) * (1 + index % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0


def iban_holds(compact: str) -> bool:
    """ISO 13616: letters as numbers, the first four characters last, modulo 97 is 1."""
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def ean_holds(digits: str) -> bool:
    """ISO/IEC 15420 (EAN-13): weights 1 and 3 in turn, the sum divides by 10."""
    return sum(int(d) * _EAN_WEIGHTS[i % 2] for i, d in enumerate(digits)) % 10 == 0


def elevens_hold(digits: str) -> bool:
    """The Dutch eleven-proof: weights 9 down to 2 and -1, the sum divides by 11."""
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    total: int = sum(int(d) * w for d, w in zip(digits, weights, strict=True))
    return total % 11 == 0


def verhoeff_holds(digits: str) -> bool:
    """Verhoeff 1969: the product in the dihedral group D5 of permuted digits is 0."""
    product = 0
    for index, character in enumerate(reversed(digits)):
        product = _dihedral(product, int(_VERHOEFF_PERMUTED[index % 8][int(character)]))
    return product == 0


def _dihedral(left: int, right: int) -> int:
    """Product in the dihedral group D5: 0 to 4 rotate, 5 to 9 rotate and mirror."""
    turned = left + right if left < 5 else left - right
    return turned % 5 + (5 if (left < 5) != (right < 5) else 0)
