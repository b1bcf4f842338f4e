"""What a run is, in words for the board: its config, and what it learns from."""

from collections.abc import Iterable, Sequence

import yaml

from pipeline.config.config import Config
from pipeline.files import hash_json
from pipeline.labels import IGNORE
from pipeline.log import by, listed
from pipeline.model import ModelFacts
from pipeline.store.reader import PreparedCase


def about(
    config: Config, facts: ModelFacts, training: Sequence[PreparedCase], held_out: Sequence[PreparedCase]
) -> dict[str, str]:
    """Return Markdown by name: "config", as YAML that trains the same again, and "data", its fingerprint."""
    written = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return {"config": f"```yaml\n{written}```", "data": data_text(facts, training, held_out)}


def data_text(facts: ModelFacts, training: Sequence[PreparedCase], held_out: Sequence[PreparedCase]) -> str:
    """Return what cases (at least one to learn from) and their classes are like on the training grid, in two tables.

    The hash is that of all arrays of all cases, in the order of names.
    """
    cases = [*training, *held_out]
    intensity = facts.intensity
    low, high = intensity.window_hu
    hashes = {case.name: dict(case.hashes) for case in sorted(cases, key=lambda case: case.name)}
    lines = {
        "cases to learn from": f"{len(training)}: {listed(case.name for case in training)}",
        "cases held out": f"{len(held_out)}: {listed(case.name for case in held_out)}" if held_out else "none",
        "spacing, mm": by(facts.spacing_mm, ".4g"),
        "spacing of the CTs, mm": spans(case.source_grid.spacing_mm for case in cases),
        "size, voxels": spans(case.grid.shape_vox for case in cases),
        "HU window": f"{low:g} to {high:g}",
        "standardised by": f"mean {intensity.mean:.4g}, standard deviation {intensity.std:.4g} of the window",
        "SHA-256 of the prepared cases": hash_json(hashes),
    }
    return "\n".join([*markdown_table(("data", ""), list(lines.items())), "", *class_table(facts, training, held_out)])


def class_table(facts: ModelFacts, training: Sequence[PreparedCase], held_out: Sequence[PreparedCase]) -> list[str]:
    """Return the lines of a table of classes: in how many cases they are, and how much of what is annotated."""
    annotated = sum(count for case in training for label, count in case.counts.items() if label != IGNORE)
    rows = []
    for label, name in enumerate(facts.labels.names, 1):
        share = sum(case.counts.get(label, 0) for case in training) / max(1, annotated)
        having = (sum(label in case.counts for case in cases) for cases in (training, held_out))
        rows.append((name, *having, f"{share:.3%}"))
    return markdown_table(("class", "cases to learn from", "cases held out", "share of the voxels to learn from"), rows)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def spans(found: Iterable[Sequence[float]]) -> str:
    """Return from where to where values along x, y, z reach."""
    axes = [(min(axis), max(axis)) for axis in zip(*found, strict=True)]
    return " x ".join(f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}" for low, high in axes)
