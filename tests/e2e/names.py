"""A name whose address a test chooses, and changes, for programs that the test starts."""

import pathlib
import subprocess
import sys

import pytest

from e2e import programs

SOURCE = pathlib.Path(__file__).with_name("names.c")
NAME = "receiver.example"  # of no machine


class Names:
    """What it takes is preloaded: only root can have another name server asked, and then it is asked for all names."""

    def __init__(self, folder: pathlib.Path) -> None:
        if sys.platform != "linux":
            pytest.skip("LOUD: a name that a test leads elsewhere needs Linux: webhooks to names are NOT tested")
        programs.need("cc", "webhooks to names that lead elsewhere are")
        library = folder / "names.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        self._address = folder / "address"
        self.environment = {
            "NAME": NAME,
            "ADDRESS_FILE": str(self._address),
            "LD_PRELOAD": str(library),
            "GODEBUG": "netdns=cgo",
        }

    def lead_to(self, address: str) -> None:
        """From now on the name has this address."""
        new = self._address.with_suffix(".new")
        new.write_text(address)
        new.replace(self._address)
