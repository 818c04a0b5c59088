# Makes .venv beside the code and installs vqdist into it: bash launch/environment.sh. demo.sh and test.sh source it.
# Run again it does only what is new: the stamp holds a hash of what the installation follows from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" - <<'CHECK' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"Python {sys.version.split()[0]} found, 3.11 or newer expected; name one with PYTHON=...")
CHECK

stamp=.venv/installed
wanted=$("$python" -c 'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')
if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
  echo "making the environment in .venv (some minutes: torch alone is several GB)" >&2
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
  echo "$wanted" > "$stamp"
fi
# shellcheck source=/dev/null
source .venv/bin/activate
