#!/bin/sh
# make_venv.sh FOLDER: make a virtual environment in FOLDER with mxnetseg (editable), its requirements and the test tools.
# Uses $PYTHON if set, else the first Python 3.9 to 3.13 found.
# Installs the NumPy of requirements.txt, or the newest NumPy of the series $NUMPY, for example NUMPY=2.
set -eu
cd "$(dirname "$0")/.."
venv=$1
suits='import sys, venv, ensurepip; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))'

python=
for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.10 python3.9 python}; do
    if "$candidate" -c "$suits" 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
    echo "error: no suitable Python: ${PYTHON:-python3, python3.9 ... python3.13} must be 3.9 to 3.13, with its venv module" >&2
    echo "  fix: install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11" >&2
    exit 2
fi

echo "setting up $venv with $("$python" --version); this takes a minute or two"
rm -rf "$venv"
"$python" -m venv "$venv"
pins=$venv/requirements.txt
cat requirements.txt requirements-test.txt >"$pins"
if [ -n "${NUMPY:-}" ]; then
    grep -v '^numpy==' requirements.txt | cat - requirements-test.txt >"$pins"
    echo "numpy==$NUMPY.*" >>"$pins"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins" -e .

# A bare server lacks libGL, which opencv-python needs and opencv-python-headless does not.
if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    pin=$(sed -n 's/^opencv-python==//p' requirements.txt)
    echo "opencv-python cannot be imported here (no libGL?): installing opencv-python-headless $pin instead"
    "$venv/bin/python" -m pip uninstall --quiet --yes opencv-python
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "opencv-python-headless==$pin"
fi
"$venv/bin/python" -c 'import cv2, mxnetseg, mxnet' || {
    echo "error: the environment in $venv does not work; $venv/bin/mxnetseg doctor reports the reason" >&2
    exit 1
}
