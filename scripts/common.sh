# Shared by ./quickstart and ./test: which packages are there, what is missing, building with a forecast.
# Sourced, not run. Everything is said on stderr; stdout is for results.

# What the program is built with, and what the tests need besides. Names of Debian 12 packages; a leading + marks one that is
# only welcome: it is installed where that is possible and never missed.
BUILD_PACKAGES="ca-certificates cmake ninja-build g++ pkg-config libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev
    libssl-dev libpcre2-dev libutf8proc-dev libedit-dev libboost1.81-dev opencl-headers python3 python3-pip +ccache"
TEST_PACKAGES="ccache git libgtest-dev libgmock-dev clang-14 llvm-14 libclang-rt-14-dev python3-numpy python3-jinja2
    ocl-icd-libopencl1 pocl-opencl-icd +oclgrind +chromium"

say() { printf '%s\n' "$*" >&2; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit "${FAIL_CODE:-1}"; }

# step "what": the heading of one step, with how many there are and how long it took until here.
STEP=0
step() { STEP=$((STEP + 1)); say "[$STEP/$STEPS, ${SECONDS}s] $*"; }

# Debian's own Python: the one that Debian's packages of modules serve. Whatever else is called python3 may lack them.
python() { if [ -x /usr/bin/python3 ]; then /usr/bin/python3 "$@"; else python3 "$@"; fi; }

# Is the thing that package $1 brings there without the package (another system, or a user's own install)?
present_without_package() {
    case "$1" in
        cmake) cmake -E true && cmake --version | awk 'NR == 1 { split($3, v, "."); exit !(v[1] > 3 || v[1] == 3 && v[2] >= 25) }' ;;
        ninja-build) command -v ninja ;;
        g++) command -v g++ && [ "$(g++ -dumpversion | cut -d. -f1)" -ge 12 ] ;;
        ca-certificates) [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] ;;
        pkg-config) command -v pkg-config ;;
        libssl-dev) pkg-config --exists libcrypto ;;
        libpcre2-dev) pkg-config --exists libpcre2-8 ;;
        libutf8proc-dev) pkg-config --exists libutf8proc ;;
        libedit-dev) pkg-config --exists libedit ;;
        libboost1.81-dev) [ -e /usr/include/boost/beast.hpp ] || [ -e /usr/local/include/boost/beast.hpp ] ;;
        libfmt-dev) pkg-config --exists fmt ;;
        libspdlog-dev) pkg-config --exists spdlog ;;
        nlohmann-json3-dev) pkg-config --exists nlohmann_json ;;
        libcli11-dev) [ -e /usr/include/CLI/CLI.hpp ] || [ -e /usr/local/include/CLI/CLI.hpp ] ;;
        opencl-headers) [ -e /usr/include/CL/cl.h ] || [ -e /usr/local/include/CL/cl.h ] ;;
        ocl-icd-libopencl1) ldconfig -p | grep -q 'libOpenCL\.so\.1' ;;
        pocl-opencl-icd) [ -e /etc/OpenCL/vendors/pocl.icd ] ;;
        libgtest-dev) pkg-config --exists gtest ;;
        libgmock-dev) pkg-config --exists gmock ;;
        clang-14) command -v clang++-14 ;;
        llvm-14) command -v llvm-symbolizer-14 ;;
        python3-pip) python -m pip --version ;;
        python3-numpy) python -c 'import numpy' ;;
        python3-jinja2) python -c 'import jinja2' ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

# missing_packages PACKAGE...: those that are not there, a + kept.
missing_packages() {
    local installed="" package name
    if command -v dpkg-query >/dev/null; then
        installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
    fi
    for package in "$@"; do
        name=${package#+}
        grep -qxF -- "$name" <<<"$installed" || present_without_package "$name" || printf '%s ' "$package"
    done
}

# apt_get ARGUMENTS: as root, or through a sudo that asks nothing. False where neither is to be had.
apt_get() {
    local as=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
        as=(sudo -n)
    fi
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# need_packages PACKAGE...: installs what is missing, or says exactly what that is and ends the script.
need_packages() {
    local missing required log
    missing=$(missing_packages "$@")
    required=$(tr ' ' '\n' <<<"$missing" | grep -v '^+' | tr '\n' ' ' | sed 's/ *$//')
    if [ -z "$required" ]; then
        return 0  # what is only welcome is not worth a wait or a password
    fi
    missing=$(sed -E 's/(^| )\+/\1/g; s/ *$//' <<<"$missing")
    if ! apt_get --version >/dev/null 2>&1; then
        say "  These Debian packages are missing, and installing them needs root and apt-get, which this user lacks:"
        say "      $required"
        say "  Ask someone who may, to run:"
        say "      apt-get update && apt-get install -y --no-install-recommends $required"
        fail "$(wc -w <<<"$required") packages are missing"
    fi
    say "  installing $(wc -w <<<"$missing") packages, a minute or two: $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! apt_get install -y --no-install-recommends $missing >"$log" 2>&1; then
        # A new machine has no list of packages, an old one may have a stale list: only then is it worth the time.
        say "  refreshing the list of packages, then once more"
        if ! { apt_get update && apt_get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            fail "apt-get could not install: $missing"
        fi
    fi
    rm -f "$log"
    say "  installed, ${SECONDS}s"
}

# The results of everything go to build/; say so plainly where that cannot be.
need_build_folder() {
    mkdir -p build 2>/dev/null && [ -w build ] || fail "cannot write to $PWD/build: run this as the owner of the tree, or in a clone of your own"
}

# configured FOLDER: is it ready for ninja? (Not where the tree was moved or a try was cut short.)
configured() { [ -e "$1/build.ninja" ] && grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$1/CMakeCache.txt" 2>/dev/null; }

# configure PRESET FOLDER [CMAKE ARGUMENTS]
configure() {
    local preset=$1 folder=$2 fresh=() log
    shift 2
    configured "$folder" || fresh=(--fresh)
    log=$(mktemp)
    if ! cmake "${fresh[@]}" --preset "$preset" -B "$folder" -S . "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# build FOLDER TARGET...: with a forecast. The compiler's words are shown where something fails, and the rest is still built.
build() {
    local folder=$1
    shift
    ccache_folder
    NINJA_STATUS='[%f/%t] ' python scripts/progress.py ninja -k 0 -C "$folder" "$@"
}

# ccache wants a home that it can write to. With paths taken relative to the tree, one clone's objects serve the next clone.
ccache_folder() {
    export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
    if [ -z "${CCACHE_DIR:-}" ] && ! [ -w "${HOME:-/nonexistent}" ]; then
        CCACHE_DIR=$(python scripts/fetch.py where)/ccache
        export CCACHE_DIR
    fi
}
