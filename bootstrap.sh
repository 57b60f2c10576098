#!/usr/bin/env bash
# Prepares a checkout: .venv with the locked packages, this project (editable), and an off-screen GL library.
# Idempotent: a second run takes seconds. Needs Python >= 3.12 anywhere on the machine; the default python3 may be older.
#   VEGA_VENV_CACHE=DIR  keep the environment in DIR, keyed by the lock's hash, and link .venv to it (CI does)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() { printf '\nsetup: %s\n' "$1" >&2; exit 1; }

is_recent() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${VEGA_PYTHON:-} python3.13 python3.12 python3 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python3; do
    if is_recent "$candidate"; then echo "$candidate"; return; fi
  done
  if command -v uv >/dev/null; then
    candidate=$(uv python find '>=3.12' 2>/dev/null) && is_recent "$candidate" && echo "$candidate"
  fi
  return 0
}

lock_hash() { sha256sum requirements.lock | cut -c1-16; }

make_venv() {
  local python=$1 folder=.venv
  if [ -n "${VEGA_VENV_CACHE:-}" ]; then
    folder="$VEGA_VENV_CACHE/venv-$(lock_hash)"
    if [ "$(readlink .venv 2>/dev/null)" != "$folder" ]; then rm -rf .venv; ln -s "$folder" .venv; fi
  fi
  if ! [ -x "$folder/bin/python" ]; then
    echo "setup: making $folder with $("$python" --version)"
    mkdir -p "$(dirname "$folder")"
    "$python" -m venv "$folder"
  fi
}

install_packages() {
  local stamp=.venv/.lock-installed
  if [ "$(cat "$stamp" 2>/dev/null)" != "$(lock_hash)" ]; then
    echo "setup: installing $(grep -c == requirements.lock) locked packages (about 7 GB with CUDA's libraries; some minutes)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
    lock_hash > "$stamp"
  fi
  local project=.venv/.project-installed  # an editable install points at one checkout
  if [ "$(cat "$project" 2>/dev/null)" != "$PWD $(cat setup.py pyproject.toml | sha256sum)" ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    echo "$PWD $(cat setup.py pyproject.toml | sha256sum)" > "$project"
  fi
}

has_gl() {  # EGL's library alone renders nothing: it needs a GPU and that GPU's driver
  local libraries; libraries=$(ldconfig -p 2>/dev/null || true)
  grep -q libOSMesa <<<"$libraries" && return
  compgen -G '/dev/nvidia[0-9]*' >/dev/null || compgen -G '/dev/dri/renderD*' >/dev/null || return 1
  grep -qE 'libEGL_(nvidia|mesa)' <<<"$libraries"
}

ensure_gl() {
  has_gl && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing libosmesa6 (off-screen rendering)"
    (apt-get update -qq && apt-get install -y -qq libosmesa6) >/dev/null || true
  fi
  has_gl || fail "no off-screen GL library (OSMesa or EGL) found; MuJoCo cannot render. Run:  sudo apt-get install -y libosmesa6"
}

python=$(find_python)
[ -n "$python" ] || fail "no Python >= 3.12 with venv found (tried python3.13, python3.12, python3, pyenv's versions, uv).
  Install one (apt install python3.12-venv | pyenv install 3.12 | uv python install 3.12) or set VEGA_PYTHON=/path/to/python3."
ensure_gl  # before the large downloads, so that a missing library is said at once
make_venv "$python"
install_packages
