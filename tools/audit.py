"""Check whether an installed package has a known vulnerability: `make audit`.

    python tools/audit.py

pip-audit, in an environment of its own, looks up every package of this one in the registry's database of advisories,
which takes a network. Exit status 0 if all were looked up and none has a known vulnerability, 1 if some have one, and 2
if some could not be looked up, which pip-audit by itself counts as success.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check whether an installed package has a known vulnerability.")
    parser.add_argument("--auditor", type=Path, default="build/audit/bin/python", help="a Python that has pip-audit")
    command = [parser.parse_args().auditor, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    ran = subprocess.run([*command, "--path", sysconfig.get_path("purelib")], capture_output=True, text=True)
    try:
        found = [one for one in json.loads(ran.stdout)["dependencies"] if one["name"] != "alikit"]  # in no registry
    except ValueError:
        why = (ran.stderr.strip() or f"status {ran.returncode}").splitlines()[-1]
        print(f"nothing was audited, pip-audit failed ({why}): try again with a network", file=sys.stderr)
        sys.exit(2)
    vulnerable = [one for one in found if one.get("vulns")]
    for one in vulnerable:
        for advisory in one["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "none yet"
            print(f"{one['name']} {one['version']}: {advisory['id']}, fixed in: {fixed}")
    if skipped := [f"{one['name']} ({one['skip_reason']})" for one in found if "skip_reason" in one]:
        what = f"{len(skipped)} of {len(found)} packages were not audited, such as {skipped[0]}"
        print(f"{what}: try again where the registry's own advisories can be reached", file=sys.stderr)
        sys.exit(2)
    print(f"{len(found)} packages looked up, {len(vulnerable) or 'none'} with known vulnerabilities")
    sys.exit(bool(vulnerable))
