"""Commands on the models folder: `triptych-models --help`."""

import argparse
import contextlib
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from threadpoolctl import threadpool_limits

from triptych_research import bundle, export, sources, tasks
from triptych_research.bundle import BundleError
from triptych_research.classification import dataset, train
from triptych_research.classification import head as head_file
from triptych_research.classification.dataset import DatasetError
from triptych_research.classification.logistic import NotConvergedError
from triptych_research.family import ExportError
from triptych_research.golden import GoldenError
from triptych_research.json_fields import CheckpointError
from triptych_research.kernels import KernelsError
from triptych_research.recipes import ENCODER, FAMILIES, HEADS, RECIPES, Recipe
from triptych_research.reference import ReferenceMismatchError
from triptych_research.sources import SourceError
from triptych_research.store import Current, Store, StoreError

# What a command may fail with: the message is for the user. Anything else is a defect and keeps its trace.
EXPECTED = (
    BundleError,
    CheckpointError,
    DatasetError,
    ExportError,
    GoldenError,
    KernelsError,
    MemoryError,
    NotConvergedError,
    OSError,
    ReferenceMismatchError,
    SourceError,
    StoreError,
)
_CACHE = pathlib.Path(".cache/wheels")
_ORIGIN = "file:FOLDER or hub:owner/name@commit, with /FILE.gguf behind it for one of a hub's GGUF files"
MAX_ERROR = 1000  # characters


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, or 1 after an error; wrong usage exits with 2."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        options.run(options, Store(options.models), console)
    except EXPECTED as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def one_line(error: BaseException) -> str:
    """Return what an error says. It may quote a file from outside, which is not to move a cursor or fill a screen."""
    text = str(error) or "not enough memory"  # the only one that says nothing
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= MAX_ERROR else f"{line[:MAX_ERROR]} …"


def _export(options: argparse.Namespace, store: Store, console: Console) -> None:
    for recipe in _recipes(options):
        _export_one(recipe, options, store, console)


def _export_one(recipe: Recipe, options: argparse.Namespace, store: Store, console: Console) -> None:
    revision = None if options.force else export.up_to_date(recipe, store)
    if revision:
        console.print(f"{recipe.name} {revision} is up to date: same weights, same exporter (--force exports again)")
        return

    @contextlib.contextmanager
    def step(title: str) -> Iterator[None]:
        start = time.monotonic()
        with console.status(title) if console.is_terminal else contextlib.nullcontext():
            yield
        console.print(f"{title}: {time.monotonic() - start:.1f} s")

    # NumPy's matrices are small. On a busy machine its threads wait for each other longer than they work.
    with threadpool_limits(limits=1, user_api="blas"):
        exported = export.export(recipe, store, options.cache, step)
    revision = exported.revision
    if not options.no_promote:
        store.promote(recipe.name, revision)
    for precision, reason in exported.left_out.items():
        console.print(f"{recipe.name}: {precision} is left out: {reason}", markup=False)
    console.print(f"{recipe.name} {revision}{'' if options.no_promote else ' is current'}")


def _recipes(options: argparse.Namespace) -> Iterable[Recipe]:
    if options.name is None and options.origin is None:
        return RECIPES.values()
    return [_recipe(options)]


def _recipe(options: argparse.Namespace) -> Recipe:
    if options.name is None:
        raise SourceError(f"{options.origin}: NAME is needed: what the model is to be called")
    if options.origin is None:
        if options.name not in RECIPES:
            raise SourceError(f"{options.name}: no such recipe; give --from, or one of {', '.join(RECIPES)}")
        return RECIPES[options.name]
    kind, _, address = options.origin.partition(":")
    if kind not in ("file", "hub"):
        raise SourceError(f"{options.origin}: expected {_ORIGIN}")
    for flag in ("license", "owner") if kind == "file" else ("license",):
        if not getattr(options, flag):
            raise SourceError(f"{options.origin}: --{flag} is needed: the manifest states it")
    origin: sources.Origin
    if kind == "hub":
        origin = sources.Hub(address, options.license)
    else:
        origin = sources.Folder(pathlib.Path(address), options.license, options.owner)
    if options.sha256:
        origin = sources.Pinned(options.sha256.lower(), [origin])
    return Recipe(options.name, origin, FAMILIES[options.task])


def _list(options: argparse.Namespace, store: Store, console: Console) -> None:
    table = Table("MODEL", "REVISION", "STANDING", box=None, pad_edge=False)
    for name in store.names():
        current = store.current(name)
        for revision in store.revisions(name):
            table.add_row(name, revision, _standing(revision, current))
    console.print(table)


def _standing(revision: str, current: Current | None) -> str:
    if current is None or revision not in (current.revision, *current.history):
        return "-"
    return "current" if revision == current.revision else f"{current.history.index(revision) + 1} back"


def _show(options: argparse.Namespace, store: Store, console: Console) -> None:
    found = bundle.read(_path(options, store))
    console.print((found.path / bundle.MANIFEST).read_text(), end="", markup=False)
    if (card := found.path / bundle.MEASUREMENTS).exists():
        console.print(card.read_text(), end="", markup=False)


def _verify(options: argparse.Namespace, store: Store, console: Console) -> None:
    found = bundle.verify(_path(options, store), store.current_path)
    files, cases = len(found.manifest.files), tasks.of(found.manifest).count_cases(found.golden)
    console.print(f"{options.name} {found.revision} is whole: {files} files, {cases} golden cases")


def _path(options: argparse.Namespace, store: Store) -> pathlib.Path:
    if options.revision:
        return store.path(options.name, options.revision)
    return store.current_path(options.name)


def _promote(options: argparse.Namespace, store: Store, console: Console) -> None:
    current = store.promote(options.name, options.revision)
    console.print(f"{options.name} {current.revision} is current")


def _rollback(options: argparse.Namespace, store: Store, console: Console) -> None:
    current = store.rollback(options.name)
    console.print(f"{options.name} {current.revision} is current again")


def _import(options: argparse.Namespace, store: Store, console: Console) -> None:
    source = Store(options.folder)
    names = source.names()
    if not names:
        raise StoreError(f"{options.folder}: no models")
    # A head is checked on its encoder, which has to be there before it.
    for name in sorted(names, key=lambda name: (bundle.is_head(source.current_path(name)), name)):
        revision = store.add_current(source, name)
        store.promote(name, revision)
        console.print(f"{name} {revision} is current")


def _check_reference(options: argparse.Namespace, store: Store, console: Console) -> None:
    recipe = _recipe(options)
    error = recipe.family.check_reference(recipe.origin.fetch(options.cache), options.cache)
    console.print(f"{recipe.name}: NumPy and PyTorch differ by at most {error:.1e}")


def _train_moderation(options: argparse.Namespace, store: Store, console: Console) -> None:
    encoder = bundle.read(store.current_path(ENCODER.name))
    with Progress(console=console) as bars, threadpool_limits(limits=1, user_api="blas"):

        def progress(title: str, steps: int) -> Callable[[], None]:
            bar = bars.add_task(title, total=steps)
            return lambda: bars.advance(bar)

        head, scores = train.train(options.data, encoder, progress)
    head.write(options.output)
    train.write_scores(scores, options.output)
    table = Table("CATEGORY", "TEXTS", "AUC", "AP", "FROM", "PRECISION", "RECALL", "ALARMS", "SAYS", box=None)
    for each in scores.categories:
        measured = (each.auc.value, each.average_precision.value, each.threshold)
        unseen = (each.at_unseen.precision, each.at_unseen.recall)
        numbers = [*(f"{number:.2f}" for number in (*measured, *unseen)), f"{each.false_alarms.value:.2%}"]
        kind = "advice" if each.advisory else "verdicts"
        table.add_row(each.name, f"{each.positives}/{each.texts}", *numbers, kind)
    console.print(table)
    console.print(
        f"{scores.flagged.value:.2%} of {sum(each.texts for each in scores.ordinary):,} ordinary texts are flagged"
    )
    console.print(f"{options.output / head_file.FILE} and {train.SCORES_FILE} are written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="triptych-models", description="Make, check and promote model bundles.")
    parser.add_argument(
        "--models", type=pathlib.Path, default="models", metavar="FOLDER", help="models folder [models]"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("export", help="make a model's bundle, judge it, and promote it")
    command.set_defaults(run=_export)
    command.add_argument(
        "name", metavar="NAME", nargs="?", help=f"{' or '.join(RECIPES)} [all of them], or a new name with --from"
    )
    _add_origin(command)
    command.add_argument("--license", metavar="SPDX", help="licence of the weights; needed with --from")
    command.add_argument("--owner", help="who published the weights; needed with --from file:")
    command.add_argument("--force", action="store_true", help="export although the current bundle is up to date")
    command.add_argument("--no-promote", action="store_true", help="leave the current revision as it is")

    command = commands.add_parser(
        "train-moderation",
        help="train the moderation head, judge it, and write its numbers",
        description=f"Train the moderation head on OpenAI's published evaluation set: {dataset.FILE}, in the folder "
        f"data of {dataset.ORIGIN}, SHA-256 {dataset.SHA256}. Because it is trained on this set, nobody may report "
        "results on the set with it.",
    )
    command.set_defaults(run=_train_moderation)
    command.add_argument("--data", type=pathlib.Path, required=True, metavar="FOLDER", help=f"with {dataset.FILE}")
    command.add_argument(
        "--output", type=pathlib.Path, default=HEADS, metavar="FOLDER", help="where the numbers go [this package]"
    )

    command = commands.add_parser("list", help="list models and revisions")
    command.set_defaults(run=_list)
    command = commands.add_parser("show", help="print a bundle's manifest and what was measured")
    command.set_defaults(run=_show)
    _add_revision(command)
    command = commands.add_parser("verify", help="check a bundle: manifest, hashes, graphs, golden cases")
    command.set_defaults(run=_verify)
    _add_revision(command)
    command = commands.add_parser("promote", help="make a revision current, after verifying it")
    command.set_defaults(run=_promote)
    command.add_argument("name", metavar="NAME")
    command.add_argument("revision", metavar="REVISION")
    command = commands.add_parser("rollback", help="make the revision before the current one current again")
    command.set_defaults(run=_rollback)
    command.add_argument("name", metavar="NAME")
    command = commands.add_parser("import", help="copy the current bundles of another models folder, and promote them")
    command.set_defaults(run=_import)
    command.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    command = commands.add_parser(
        "check-reference", help="compare the NumPy reference with PyTorch (needs the extra torch)"
    )
    command.set_defaults(run=_check_reference, license="-", owner="-")
    command.add_argument("name", metavar="NAME", help=f"{' or '.join(RECIPES)}, or any name with --from")
    _add_origin(command)
    return parser


def _add_revision(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME")
    command.add_argument("revision", metavar="REVISION", nargs="?", help="default: the current one")


def _add_origin(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="origin", metavar="ORIGIN", help=_ORIGIN)
    command.add_argument("--task", choices=FAMILIES, default="embedding", help="of --from's model [embedding]")
    command.add_argument("--sha256", metavar="HASH", help="refuse --from's weights if their file has another one")
    command.add_argument("--cache", type=pathlib.Path, default=_CACHE, metavar="FOLDER", help=f"downloads [{_CACHE}]")
