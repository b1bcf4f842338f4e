"""Classes of a config taken from those that a store was prepared with: fewer of them, or several as one."""

from pathlib import Path

import numpy as np

from pipeline.config.text import in_line
from pipeline.errors import UserError
from pipeline.labels import IGNORE, Labels


def class_table(stored: Labels, wanted: Labels, store: Path, *, named: bool = False) -> np.ndarray:
    """Return the table, (256,) uint8, from class indices of `stored` to those of `wanted`; see `PreparedCase.seen_as`.

    Both must say the same label values: a value that is no class any more belongs under `labels.background`. Each set
    of stored values goes as a whole to one wanted class, to the background or to what is ignored; background stays what
    it is, as what lies outside a volume is background, too.
    named: whether classes were found by their names, as masks are: a name must then keep its values.
    Raises UserError, with the store's path, where the wanted classes cannot be taken from the stored ones.
    """
    becomes = wanted.class_of_value()
    table = np.arange(256, dtype=np.uint8)
    reason = reason_against(stored, wanted, named=named)
    if reason:
        raise UserError(
            f"labels: {in_line(dict(wanted.values))} cannot be taken from {in_line(dict(stored.values))}, which "
            f"{store} was prepared with: {reason}. Change labels, or run prepare again, which makes every case anew."
        )
    for value, index in stored.class_of_value().items():
        table[index] = becomes[value]
    return table


def reason_against(stored: Labels, wanted: Labels, *, named: bool = False) -> str | None:
    """Return why the wanted classes cannot be taken from the stored ones, None where they can; see `class_table`."""
    held, becomes = stored.class_of_value(), wanted.class_of_value()
    unknown = sorted(becomes.keys() - held.keys())
    if unknown:
        return f"value {unknown[0]} was not prepared"
    unsaid = sorted(held.keys() - becomes.keys())
    if unsaid:
        return f"it says nothing of value {unsaid[0]}, which may go under labels.background"
    moved = [name for name in wanted.names if set(stored.values.get(name, ())) - set(wanted.values[name])]
    if named and moved:
        return f"the mask of {moved[0]} was prepared as {list(stored.values[moved[0]])}"
    goes_to: dict[int, int] = {}
    for value, index in held.items():
        if goes_to.setdefault(index, becomes[value]) != becomes[value]:
            together = sorted(other for other in held if held[other] == index)
            return f"values {together} were prepared as one and cannot be told apart"
        if (index == 0 and becomes[value] != 0) or (index == IGNORE and becomes[value] not in (0, IGNORE)):
            return f"value {value} was prepared as {'ignored' if index else 'background'}"
    return None
