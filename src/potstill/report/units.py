"""Figures as people read them: with a unit, a real minus sign, and no more digits than they deserve."""

from __future__ import annotations

MISSING = "–"
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def count_text(count: float) -> str:
    """A number of things in four digits or fewer: `134.5 M`, `960`."""
    for size, letter in _COUNTS:
        if count >= size * 0.99995:
            return f"{count / size:.1f} {letter}"
    return f"{count:.0f}"


def bytes_text(size: float) -> str:
    """Bytes in decimal units: `538 MB`, `1.2 GB`, `960 B`."""
    for unit, name in _BYTES:
        if size >= unit * 0.9995:
            return f"{size / unit:.1f} {name}" if size < 99.95 * unit else f"{size / unit:.0f} {name}"
    return f"{size:.0f} B"


def duration_text(seconds: float) -> str:
    """A duration: `2.35 s`, `12.3 ms`, `4 min 10 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms" if seconds < 0.0995 else f"{seconds * 1e3:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.3g} s" if seconds >= 9.995 else f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def dollars_text(dollars: float) -> str:
    """Dollars and cents, and of small sums three digits: `$1,234.50`, `$0.50`, `$0.0123`."""
    if dollars >= 0.995 or dollars == 0:
        return f"${dollars:,.2f}"
    cents = f"{float(f'{dollars:.3g}'):.12f}".removeprefix("0.").rstrip("0")
    return f"$0.{cents:0<2}"


def score_text(value: float) -> str:
    """A metric's value: three decimals up to 1, one decimal on scales of 0 to 100."""
    return signed(f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}")


def percent_text(share: float) -> str:
    """A share in whole per cent; what is nearly, but not quite, 0 % or 100 % keeps the digits that say so."""
    percent = share * 100
    for digits in range(4):
        text = f"{percent:.{digits}f}"
        exact = percent in (0.0, 100.0, -100.0)
        if exact or abs(float(text)) not in (0.0, 100.0):
            return signed(f"{text} %")
    return signed(f"{percent:.0f} %")


def change_text(new: float, old: float) -> str:
    """The relative change from `old` to `new`: `−61 %`, `+8 %`, `no change`; a dash where `old` is not above zero."""
    if old <= 0:
        return MISSING
    if new == old:
        return "no change"
    return ("+" if new > old else "") + percent_text(new / old - 1)


def speed_text(new: float, old: float) -> str:
    """How much faster a rate is: `1.90× faster`, `2.4× slower`, `no change`; a dash where a rate is not above zero.

    Below 2 two decimals: 1.49× is not 1.5×.
    """
    if old <= 0 or new <= 0:
        return MISSING
    factor, word = (new / old, "faster") if new >= old else (old / new, "slower")
    text = f"{factor:.2f}" if factor < 1.995 else f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"
    return "no change" if text == "1.00" else f"{text}× {word}"


def signed(text: str) -> str:
    """The text with a minus sign in place of a hyphen, and without one before zero."""
    if text.startswith("-") and not any(digit in text for digit in "123456789"):
        text = text[1:]
    return text.replace("-", "−", 1) if text.startswith("-") else text
