"""The README's table of limits says what the code says, and leaves none out."""

import importlib
import pathlib
import re
from collections.abc import Mapping

import triptych_research

README = pathlib.Path(__file__).parents[1] / "README.md"
SOURCE = pathlib.Path(triptych_research.__file__).parent
ROW = re.compile(r"^\|.*\| ([\d,]+)( KiB| MiB| GiB| s|) \| `([\w.]+?)\.([A-Z_]+)(?:\[\"?([\w.]+)\"?\])?` \|$", re.M)
NO_INPUTS = {
    ("classification.thresholds", "MAX_FALSE_ALARMS"),  # what a label may be wrong in
}
UNITS = {"": 1, " s": 1, " KiB": 2**10, " MiB": 2**20, " GiB": 2**30}
LIMIT = re.compile(r"^(MAX_\w+|\w+_BYTES|\w+_SECONDS)(?:: .*)? = ", re.M)


def of(module: str, name: str) -> Mapping[str, int]:
    """A constant's limits by key; one without keys has an empty one."""
    value = getattr(importlib.import_module(f"triptych_research.{module}"), name)
    return value if isinstance(value, Mapping) else {"": value}


def test_the_tables_numbers_are_the_codes_and_none_is_missing() -> None:
    table = README.read_text().split("\n## Limits\n", 1)[1]
    stated = {
        (module, name, key): int(number.replace(",", "")) * UNITS[unit]
        for number, unit, module, name, key in ROW.findall(table)
    }
    named = {
        (".".join(path.relative_to(SOURCE).with_suffix("").parts), name)
        for path in SOURCE.rglob("*.py")
        for name in LIMIT.findall(path.read_text())
    }
    limits = {
        (module, name, key): value for module, name in named - NO_INPUTS for key, value in of(module, name).items()
    }
    assert stated == limits
