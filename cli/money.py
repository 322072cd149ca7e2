"""Amounts in minor units, written as people read them."""

from typing import Final

# ISO 4217, table A.1: currencies whose minor unit is not a hundredth.
_WITHOUT_DIGITS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS: Final = "BHD IQD JOD KWD LYD OMR TND"


def written(amount_minor: int, currency: str) -> str:
    """For example `45.00 EUR`, `4500 JPY`."""
    digits = _digits(currency)
    whole, part = divmod(abs(amount_minor), 10**digits)
    sign = "-" if amount_minor < 0 else ""
    fraction = f".{part:0{digits}}" if digits else ""
    return f"{sign}{whole}{fraction} {currency}".rstrip()


def _digits(currency: str) -> int:
    if currency in _WITHOUT_DIGITS.split():
        return 0
    return 3 if currency in _THREE_DIGITS.split() else 2
