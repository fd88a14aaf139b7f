"""Write the bill of materials of the container that this runs in (CycloneDX JSON) to standard output."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions


def component(kind: str, name: str, version: str) -> dict[str, str]:
    """Return a CycloneDX component of a package; `kind` is the type in its package URL."""
    return {"type": "library", "name": name, "version": version, "purl": f"pkg:{kind}/{name}@{version}"}


python = sorted({(one.name.lower().replace("_", "-"), one.version) for one in distributions()})
debian = subprocess.run(
    ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n"],
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
bill = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {"component": component("generic", "recllm-r1", os.environ["RECLLM_GIT_COMMIT"])},
    "components": [component("pypi", *one) for one in python]
    + [component("deb/debian", *line.split()) for line in debian],
}
json.dump(bill, sys.stdout, indent=1)
