#!/usr/bin/env bash
# Leaves .venv/bin/resolverd behind, and what `make demo` and `make test` need besides Python: system packages, and an
# unpacked systemd-resolved where none is installed. Run it by `make setup`. PYTHON names the interpreter to use.
# It installs nothing that is there already, never systemd-resolved, and never changes /etc/resolv.conf.
# With the argument `bench` also what `make bench-dns` measures with and beside; what cannot be had is left out there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Program, and the packages of Debian and Ubuntu that may hold it: the first one that the release knows is installed.
needed=(
    "ip iproute2"
    "mount mount"
    "dbus-daemon dbus-daemon dbus"
    "dbus-send dbus-bin dbus"
    "dig bind9-dnsutils dnsutils"
    "openssl openssl"
    "curl curl"
    "nft nftables"
)
# For tests and measurements only: where a release has no such package, they are skipped.
for_tests=(
    "kubectl kubernetes-client"
    "nc netcat-openbsd"
    "nghttpd nghttp2-server"
    "h2load nghttp2-client"
    "iptables-nft iptables"
)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() { # WHAT: WHY (FIX)
    echo "make setup: $1" >&2
    exit 1
}

step() { # LABEL COMMAND...: one line with its progress; what the command says is shown only when it fails
    local label=$1 started=$SECONDS pid
    shift
    printf '%-44s' "$label"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        ((SECONDS - started < 2)) || { ((SECONDS % 2)) || printf .; sleep 0.8; }
    done
    if wait "$pid"; then
        printf ' done, %d s\n' $((SECONDS - started))
    else
        printf ' failed\n'
        tail -n 15 "$log" >&2
        exit 1
    fi
}

can_install() { [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; }

refresh_package_lists() {
    [[ -n ${lists_are_fresh-} ]] || step "package lists" apt-get update --quiet
    lists_are_fresh=yes
}

is_known() { [[ -n $(apt-cache show --no-all-versions "$1" 2>/dev/null) ]]; }

install_packages() { # PACKAGE...: as root; without recommendations, without questions, and nothing that resolves names
    local before
    if apt-get install --simulate --no-install-recommends --yes "$@" | grep -E '^(Inst|Remv) (systemd-resolved|resolvconf|openresolv) '; then
        fail "installing $*: apt would change who owns /etc/resolv.conf (install them by hand)"
    fi
    before=$(sha256sum /etc/resolv.conf 2>/dev/null || true)
    step "system packages: $*" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --quiet --yes --no-install-recommends "$@"
    [[ $before == $(sha256sum /etc/resolv.conf 2>/dev/null || true) ]] ||
        fail "installing $*: /etc/resolv.conf has changed (look at it, then run this again)"
}

is_good_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    if [[ -n ${PYTHON-} ]]; then
        is_good_python "$PYTHON" || fail "PYTHON=$PYTHON: not a Python 3.11 or newer (name another one)"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if is_good_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

set_up_python() {
    local python version
    if ! python=$(find_python); then
        [[ -z ${PYTHON-} ]] || exit 1
        can_install || fail "Python 3.11 or newer: not found (apt-get install python3 python3-venv, or make setup PYTHON=...)"
        refresh_package_lists
        if is_known python3.11; then # Ubuntu 22.04 has it beside its own 3.10
            install_packages python3.11 python3.11-venv
        else
            install_packages python3 python3-venv
        fi
        python=$(find_python) || fail "Python 3.11 or newer: this release has none (make setup PYTHON=...)"
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        can_install || fail "$python: it lacks venv (apt-get install $version-venv)"
        refresh_package_lists
        install_packages "$version-venv"
    fi
    is_good_python .venv/bin/python || step "virtual environment (.venv)" "$python" -m venv --clear .venv
    step "Python packages (requirements.lock)" .venv/bin/python -m pip install --quiet --no-input \
        --disable-pip-version-check --require-hashes --requirement requirements.lock
    step "resolverd itself" .venv/bin/python -m pip install --quiet --no-input \
        --disable-pip-version-check --no-deps --no-build-isolation --editable .
}

set_up_programs() {
    local line program candidates package missing=()
    for line in "${needed[@]}"; do
        read -r program candidates <<<"$line"
        command -v "$program" >/dev/null || missing+=("$program $candidates")
    done
    ((${#missing[@]})) || return 0
    if ! can_install; then
        for line in "${missing[@]}"; do
            read -r program package _ <<<"$line"
            echo "make setup: $program: not found (as root: apt-get install --no-install-recommends $package)" >&2
        done
        exit 1
    fi
    local packages=()
    refresh_package_lists
    for line in "${missing[@]}"; do
        read -r program candidates <<<"$line"
        for package in $candidates; do
            is_known "$package" && break
        done
        packages+=("$package")
    done
    install_packages "${packages[@]}"
}

# PyGObject, for the tests of the other D-Bus library: there are no wheels of it. Without it they are skipped.
set_up_gi() {
    [[ -e /usr/lib/python3/dist-packages/gi ]] && return
    can_install || return 0
    refresh_package_lists
    ! is_known python3-gi || install_packages python3-gi gir1.2-glib-2.0
}

set_up_test_programs() {
    local line program package missing=() packages=()
    for line in "${for_tests[@]}"; do
        read -r program package <<<"$line"
        command -v "$program" >/dev/null || missing+=("$package")
    done
    ((${#missing[@]})) && can_install || return 0
    refresh_package_lists
    for package in "${missing[@]}"; do
        ! is_known "$package" || packages+=("$package")
    done
    ((!${#packages[@]})) || install_packages "${packages[@]}"
}

# A real database for the tunnel's tests. Installing it would start one on this machine.
set_up_postgresql() {
    .venv/bin/python tests/postgresql.py --check && return
    ! can_install || refresh_package_lists
    ! is_known postgresql || step "PostgreSQL (unpacked, not installed)" .venv/bin/python tests/postgresql.py
}

set_up_resolved() {
    .venv/bin/python -m resolverd.demo.resolved --check &>/dev/null && return
    ! can_install || refresh_package_lists
    step "systemd-resolved (unpacked, not installed)" .venv/bin/python -m resolverd.demo.resolved --fetch
}

# unbound is unpacked, not installed: its package starts a server for the host's own questions.
unpack_unbound() {
    local packages folder=.cache/bench/unbound
    packages=$(apt-get install --simulate --no-install-recommends unbound | awk '/^Inst / { print $2 }')
    rm -rf "$folder"
    mkdir -p "$folder/archives"
    # shellcheck disable=SC2086  # one word for each package
    (cd "$folder/archives" && apt-get download -o APT::Sandbox::User=root $packages)
    for archive in "$folder"/archives/*.deb; do dpkg-deb --extract "$archive" "$folder"; done
    rm -r "$folder/archives"
    cat >"$folder/run" <<'RUN'
#!/bin/sh
here=$(dirname "$0")
libraries=$(find "$here/usr/lib" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
LD_LIBRARY_PATH=$libraries exec "$here/usr/sbin/unbound" "$@"
RUN
    chmod +x "$folder/run"
    "$folder/run" -V
}

set_up_bench() {
    local line program package missing=()
    for line in "dnsperf dnsperf" "dnsmasq dnsmasq-base"; do
        read -r program package <<<"$line"
        command -v "$program" >/dev/null || ! can_install || missing+=("$package")
    done
    if ((${#missing[@]})); then
        refresh_package_lists
        install_packages "${missing[@]}"
    fi
    if [[ -z ${UNBOUND-} && ! -x .cache/bench/unbound/run ]] && ! command -v unbound >/dev/null; then
        command -v apt-get >/dev/null || return 0
        ! can_install || refresh_package_lists
        (step "unbound (unpacked, not installed)" unpack_unbound) || rm -rf .cache/bench/unbound
    fi
}

# What the virtual environment was made of: as long as it stays the same, there is nothing to do.
ingredients=$(cat requirements.lock pyproject.toml scripts/setup.sh <(echo "$PWD ${PYTHON-}") | sha256sum)
if [[ ! -x .venv/bin/resolverd || $(cat .venv/made-of 2>/dev/null) != "$ingredients" ]]; then
    set_up_python
    echo "$ingredients" >.venv/made-of
fi
set_up_programs
set_up_gi
set_up_test_programs
set_up_resolved
set_up_postgresql
[[ ${1-} != bench ]] || set_up_bench
