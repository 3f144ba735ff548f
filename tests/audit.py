"""`make audit`: known vulnerabilities of the installed packages, by pip-audit and the advisories that PyPI serves.

Where PyPI's advisories cannot be reached, pip-audit would skip each package and say that it found none; here it is
said that nothing was looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

PROBE = "https://pypi.org/pypi/pip/24.0/json"  # of one release; mirrors that serve no advisories have none of these


def main() -> int:
    """Prints what is known; returns 1 where a package is vulnerable."""
    if why := unreachable(PROBE):
        print(f"audit: skipped, no advisory was read: {PROBE}: {why}")
        return 0
    options = ["--local", "--skip-editable", "--progress-spinner=off", "--vulnerability-service=pypi", "--format=json"]
    done = subprocess.run([sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print(f"audit: failed\n{done.stderr}")
        return 1
    lines, is_sound = report(packages)
    print("\n".join(lines))
    return 0 if is_sound else 1


def unreachable(url: str) -> str | None:
    """Why advisories cannot be read at an address; None where they can."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return None if "vulnerabilities" in json.load(answer) else "it has no advisories"
    except (OSError, ValueError) as error:
        return str(error)


def report(packages: Sequence[Mapping[str, Any]]) -> tuple[list[str], bool]:
    """What pip-audit found, a line each, and whether that is nothing."""
    bad = [
        f"{one['name']} {one['version']}: {found['id']}, mended in {' or '.join(found['fix_versions']) or 'no version'}"
        for one in packages
        for found in one.get("vulns", [])
    ]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    said = f"audit: {len(packages) - len(unknown)} packages, {len(bad)} known vulnerabilities"
    return [*bad, said + (f"; not known to PyPI: {', '.join(unknown)}" if unknown else "")], not bad


if __name__ == "__main__":
    sys.exit(main())
