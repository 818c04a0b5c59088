# Installs vqdist and puts its environment on PATH. The scripts of this folder source this file; to only install:
#
#     [EXTRAS=dev] bash launch/environment.sh
#
# The environment is that of the python on PATH (or of PYTHON=...) if it is a virtual or conda environment with torch
# installed, otherwise .venv beside this folder, which is created if necessary. An installed torch is never replaced.
# EXTRAS names extras of pyproject.toml (default: none). A stamp in the environment records what is installed, so that
# later calls return at once.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
environment=$(
  "$python" - <<'FIND'
import os
import sys
from importlib.metadata import PackageNotFoundError, version

if sys.version_info < (3, 11):
    sys.exit(f"Python: found {sys.version.split()[0]}; expected 3.11 or newer (choose one with PYTHON=...)")
is_environment = sys.prefix != sys.base_prefix or sys.prefix == os.environ.get("CONDA_PREFIX")
try:
    version("torch")
except PackageNotFoundError:
    is_environment = False
print(sys.prefix if is_environment else os.path.abspath(".venv"))
FIND
) || exit 1
[[ -x $environment/bin/python ]] || "$python" -m venv "$environment"
export PATH=$environment/bin:$PATH

stamp=$environment/vqdist-installed
# An environment shared by several checkouts holds the package of one: the folder is part of the hash.
hash=$(
  python - <<'HASH'
import hashlib
import os

print(hashlib.sha256(open("pyproject.toml", "rb").read() + os.getcwd().encode()).hexdigest())
HASH
)
# Whether `pip install .` was called here, with the requirements of now. The scripts run the code of this folder anyway.
is_installed() {
  python -P - <<'CHECK'
import json
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

try:
    found = distribution("vqdist")
except PackageNotFoundError:
    sys.exit(1)
source = json.loads(found.read_text("direct_url.json") or "{}").get("url")
required = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
sys.exit(source != Path.cwd().as_uri() or not set(required) <= set(found.requires or ()))
CHECK
}
if ! grep -qs "^$hash.*${EXTRAS:-}" "$stamp" && ! { [[ -z ${EXTRAS:-} ]] && is_installed; }; then
  torch=$(python -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true)
  echo "installing vqdist${EXTRAS:+[$EXTRAS]} into $environment${torch:+, keeping torch $torch}" >&2
  [[ -n $torch ]] || echo "torch from PyPI takes several GB; for its CPU build see README.md" >&2
  options=(--quiet --disable-pip-version-check ${torch:+"torch==$torch"})
  # The extras need torchvision, which does not import unless its build is that of torch (2.13.0+cpu: whl/cpu).
  if [[ -n ${EXTRAS:-} && $torch =~ \+(cpu|cu[0-9]+|rocm[0-9.]+|xpu)$ ]]; then
    options+=(--extra-index-url "https://download.pytorch.org/whl/${BASH_REMATCH[1]}")
  fi
  grep -qs "^$hash" "$stamp" || : >"$stamp"
  python -m pip install "${options[@]}" --editable ".${EXTRAS:+[$EXTRAS]}"
  echo "$hash ${EXTRAS:-}" >>"$stamp"
fi
