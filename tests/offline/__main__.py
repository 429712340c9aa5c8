"""A Python script under the guard: python -m tests.offline tools/tour.py, with the script's own options behind it."""

import subprocess
import sys

from tests.offline.plugin import Session

session = Session()
status = subprocess.run([sys.executable, *sys.argv[1:]]).returncode
said, problems = session.end()
print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
print(said)
sys.exit(status or bool(problems))
