"""The rules of the house, read from the syntax trees: who may import whom, and what may be said where."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.keys import all_keys

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipeline"
MODULES = sorted(PIPELINE.rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

# A room imports rooms above it, never below.
ROOMS = (
    "errors", "ranks", "log", "files", "labels", "config", "processes", "work", "volume", "formats", "dataset",
    "health", "metrics", "store", "report", "device", "head", "losses", "nets", "model", "inference", "sampling",
    "monitor", "training", "planning", "export", "stages", "cli",
)  # fmt: skip
FIRST_ROOM_OF = {"torch": "device", "monai": "device", "tensorboard": "monitor", "matplotlib": "report"}

LATE_IMPORTS = {
    ("formats/dispatch.py", "pipeline.formats.itk"): "SimpleITK takes 90 MiB of every process that imports it",
}

# What turns logits into probabilities or decisions, or labels into targets, is said once.
OUTPUT_RULES = {
    "softmax", "log_softmax", "Softmax", "LogSoftmax", "sigmoid", "sigmoid_", "logsigmoid", "Sigmoid", "LogSigmoid",
    "expit", "cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss", "binary_cross_entropy", "BCELoss",
    "binary_cross_entropy_with_logits", "BCEWithLogitsLoss", "one_hot", "AsDiscrete", "argmax",
}  # fmt: skip
ROOMS_OF_OUTPUT_RULES = {"head", "losses"}
OTHER_USES = {
    ("inference/postprocess.py", "argmax"): "the largest object of a class, by its voxels",
}

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "eval", "exec", "torch.load", "torch.save", "yaml.unsafe_load", "yaml.full_load", "yaml.UnsafeLoader",
    "yaml.FullLoader", "os.system",
}  # fmt: skip


def name_of(module: Path) -> str:
    return module.relative_to(PIPELINE).as_posix()


def room_of(module: Path) -> str:
    return module.relative_to(PIPELINE).parts[0].removesuffix(".py")


def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), str(module))


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and full dotted name of everything imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; the full name says which room it is"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def identifiers_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of every variable, attribute, keyword argument and imported thing in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.value.lineno, node.arg
    yield from ((line, name.rpartition(".")[2]) for line, name in imports_of(tree))


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_of(node: ast.AST) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))


def gate_lines(tree: ast.AST) -> set[int]:
    """Return the lines of classes that are gates or attention: there a network may weigh with sigmoid or softmax."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    inside = [lines_of(node) for node in classes if re.search("Gate|Attention", node.name)]
    return set().union(*inside)


# Imports


def test_every_module_belongs_to_a_room_of_the_order() -> None:
    assert {room_of(module) for module in MODULES if room_of(module) != "__init__"} <= set(ROOMS)


def test_a_room_imports_only_itself_and_rooms_above_it() -> None:
    offences = []
    for module in MODULES:
        room = room_of(module)
        for line, name in imports_of(tree_of(module)):
            parts = name.split(".")
            imports_a_room = parts[0] == "pipeline" and len(parts) > 1 and parts[1] in ROOMS and room in ROOMS
            if imports_a_room and ROOMS.index(parts[1]) > ROOMS.index(room):
                offences.append(f"{name_of(module)}:{line} imports {name}")
    assert offences == []


def test_heavy_packages_are_imported_by_their_rooms_and_those_below_only() -> None:
    offences = []
    for module in MODULES:
        room = room_of(module)
        for line, name in imports_of(tree_of(module)):
            first = FIRST_ROOM_OF.get(name.split(".")[0])
            if first and (room not in ROOMS or ROOMS.index(room) < ROOMS.index(first) or room == "cli"):
                offences.append(f"{name_of(module)}:{line} imports {name}")
    assert offences == []


def test_only_the_command_line_and_what_was_measured_import_inside_a_function() -> None:
    offences = [
        f"{name_of(module)}:{line} imports {name}"
        for module in MODULES
        if room_of(module) not in ("cli", "__init__")
        for function in functions_of(tree_of(module))
        for line, name in imports_of(function)
        if (name_of(module), name) not in LATE_IMPORTS
    ]
    assert offences == []


def test_package_init_files_are_empty() -> None:
    packages = [module for module in MODULES if module.name == "__init__.py" and module.parent != PIPELINE]
    assert packages
    assert [name_of(module) for module in packages if module.read_text()] == []


def test_every_folder_with_modules_is_a_package() -> None:
    assert [name_of(module) for module in MODULES if not (module.parent / "__init__.py").exists()] == []


# What may be said where


def test_output_rules_are_said_in_the_head_and_the_losses_only() -> None:
    offences = []
    for module in MODULES:
        if room_of(module) in ROOMS_OF_OUTPUT_RULES:
            continue
        tree = tree_of(module)
        allowed = gate_lines(tree) if room_of(module) == "nets" else set()
        offences += [
            f"{name_of(module)}:{line} {name}"
            for line, name in identifiers_of(tree)
            if name in OUTPUT_RULES and line not in allowed and (name_of(module), name) not in OTHER_USES
        ]
    assert offences == []


def test_every_other_use_of_an_output_rule_is_still_there() -> None:
    for name, rule in OTHER_USES:
        assert rule in {found for _, found in identifiers_of(tree_of(PIPELINE / name))}, (name, rule)


def test_nothing_that_runs_code_from_a_file_is_used() -> None:
    offences = []
    for module in MODULES:
        tree = tree_of(module)
        offences += [f"{name_of(module)}:{line} {n}" for line, n in imports_of(tree) if n.split(".")[0] in PICKLES]
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in UNSAFE_CALLS:
                offences.append(f"{name_of(module)}:{node.lineno} {ast.unparse(node)}")
            elif isinstance(node, ast.keyword) and ast.unparse(node) in ("allow_pickle=True", "shell=True"):
                offences.append(f"{name_of(module)}:{node.value.lineno} {ast.unparse(node)}")
    assert offences == []


def test_only_the_log_and_the_command_line_print() -> None:
    offences = [
        f"{name_of(module)}:{node.lineno}"
        for module in MODULES
        if room_of(module) not in ("log", "cli")
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    assert offences == []


# Sizes


@pytest.mark.parametrize("folder", ["pipeline", "scripts", "tests", "bench"])
def test_files_and_functions_are_short(folder: str) -> None:
    offences = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        if "site-packages" in file.parts:  # of the peers' environment, which bench/setup.sh makes
            continue
        text = file.read_text(encoding="utf-8")
        if len(text.splitlines()) > 400:
            offences.append(f"{file.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for function in functions_of(ast.parse(text)):
            length = function.end_lineno - function.lineno + 1
            if length > 60:
                offences.append(f"{file.relative_to(ROOT)}: {function.name} has {length} lines")
    assert offences == []


def test_python_scripts_only_hand_over_to_the_command_line() -> None:
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    assert scripts
    for script in scripts:
        text = script.read_text()
        assert len(text.splitlines()) < 10, script.name
        assert "from pipeline.cli import main" in text, script.name


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


# Documents


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def is_config_key(key: str) -> bool:
    """Say whether a dotted key is one of the config, or a name in one that takes any names."""
    parent, _, _ = key.rpartition(".")
    return key in all_keys() or parent in ("labels", "net.options", "loss.class_weights")


def test_paths_that_documents_name_exist() -> None:
    pattern = re.compile(r"(?<![\w/.<>-])(?:scripts|configs|docs|bench|tests|pipeline|examples)/[\w./-]*\w")
    missing = [
        f"{document.relative_to(ROOT)}: {path}"
        for document in DOCUMENTS
        for path in pattern.findall(text_of(document))
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    missing = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", text_of(document))
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert missing == []


def test_overrides_that_documents_and_scripts_show_are_config_keys() -> None:
    sections = "labels|data|prepare|intensity|sample|augment|head|loss|net|train|infer|evaluate"
    pattern = re.compile(rf"(?<![\w.])((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)=")
    files = [*DOCUMENTS, *sorted((ROOT / "scripts").rglob("*.sh"))]
    unknown = [
        f"{file.relative_to(ROOT)}: {key}"
        for file in files
        for key in pattern.findall(text_of(file))
        if not is_config_key(key)
    ]
    assert unknown == []


def sentences_of(tree: ast.AST) -> Iterator[str]:
    """Yield every text in a module, with … for what is filled in when it is shown."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_sentences_that_the_data_page_promises_are_in_the_code() -> None:
    refused = text_of(ROOT / "docs" / "data.md").partition("## What is refused")[2]
    promised = re.findall(r"^\|.*\| `(.+)` \|$", refused, re.MULTILINE)
    said = "\n".join(sentence for module in MODULES for sentence in sentences_of(tree_of(module)))
    assert len(promised) > 10
    assert [sentence for sentence in promised if sentence not in said] == []
