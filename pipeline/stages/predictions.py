"""What predictions are called: infer writes them and evaluate finds them by the same names."""

from collections.abc import Sequence

from pipeline.dataset.cases import Case
from pipeline.formats.dispatch import stem, written_name


def prediction_names(cases: Sequence[Case]) -> dict[str, str]:
    """Return the file name of the prediction of each case of a data set, by case name.

    cases: all of them, also those in data.exclude: what is left out must not change what the others are called.

    It is that of the CT's file, see `written_name`. Where two CTs of the data set have the same name, as in a layout
    where each lies in a folder of its own as ct.nii.gz, all predictions are called by the cases instead.
    """
    names = {case.name: written_name(case.image) for case in cases}
    stems = [stem(case.image) or case.image.name for case in cases]
    if len(set(stems)) == len(cases):
        return names
    return {case.name: case.name + names[case.name][len(each) :] for case, each in zip(cases, stems, strict=True)}
