"""What `make audit` says of dependencies."""

import audit


def test_a_vulnerable_package_fails_the_audit():
    """It is named with what mends it; a package that PyPI does not know is named too."""
    found = {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"], "aliases": [], "description": ""}
    packages = [{"name": "a", "version": "2.0", "vulns": [found, {**found, "id": "PYSEC-2", "fix_versions": []}]},
                {"name": "b", "version": "1", "vulns": []}, {"name": "torch", "skip_reason": "not found"}]  # fmt: skip
    assert audit.report(packages) == (
        ["a 2.0: PYSEC-1, mended in 2.1 or 3.0", "a 2.0: PYSEC-2, mended in no version",
         "audit: 2 packages, 2 known vulnerabilities; not known to PyPI: torch"],
        False,
    )  # fmt: skip
    assert audit.report(packages[1:2]) == (["audit: 1 packages, 0 known vulnerabilities"], True)


def test_advisories_that_cannot_be_read_are_no_good_news(monkeypatch, capsys):
    """Nothing was looked at, and that is what it says."""
    monkeypatch.setattr(audit, "PROBE", "http://127.0.0.1:1/pip")
    assert audit.main() == 0
    assert capsys.readouterr().out.startswith("audit: skipped, no advisory was read: http://127.0.0.1:1/pip: ")
