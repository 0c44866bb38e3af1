#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image that every submission of the assignment is graded in.
set -euo pipefail
umask 022
export DEBIAN_FRONTEND=noninteractive
ROOT="${AUTOGRADER_ROOT:-/autograder}"
SOURCE="$ROOT/source"
VENV="$ROOT/venv" # outside source, which only root may read: a submission may use the libraries, not the answers
. "$SOURCE/settings.sh"

apt-get update
apt-get install -y --no-install-recommends bubblewrap python3 python3-pip python3-venv

# The versions in requirements.txt were taken under this Python, so look for the same: on the image, else from uv.
with_this_python() { rm -rf "$VENV" && "python$PYTHON_VERSION" -m venv "$VENV"; }
with_uv() {
    export UV_PYTHON_INSTALL_DIR="$ROOT/python" UV_PYTHON_PREFERENCE=managed
    rm -rf "$VENV" "$ROOT/uv" && python3 -m venv "$ROOT/uv" && "$ROOT/uv/bin/pip" install uv &&
        "$ROOT/uv/bin/uv" venv --seed --python "$PYTHON_VERSION" "$VENV"
}
with_any_python() { rm -rf "$VENV" && python3 -m venv "$VENV"; }
with_this_python || with_uv || with_any_python

# torch first, from the index of builds without CUDA: from PyPI it brings several GB.
install() {
    local torch
    torch="$(grep -m1 '^torch' "$1")"
    { "$VENV/bin/pip" install "$torch" --index-url https://download.pytorch.org/whl/cpu ||
        "$VENV/bin/pip" install "$torch"; } && "$VENV/bin/pip" install -r "$1"
}
if ! install "$SOURCE/requirements.txt"; then
    echo "wmcourse: the versions in requirements.txt cannot be had here; taking the newest that pyproject.toml allows"
    install "$SOURCE/ranges.txt"
fi

chmod -R go-rwx "$SOURCE"
cd "$SOURCE"
"$VENV/bin/python" -m wmcourse grade --help > /dev/null # a build that cannot grade fails here, where you see it
echo "wmcourse: ready to grade lesson $LESSON"
