# shellcheck shell=bash
# What the scripts that start backends share: jars in a cache, processes by identity, free ports.
# Sourced, never run. The caller sets HERE (its own folder) and WHAT (the backend's name).

CACHE="${PENSTOCK_BACKENDS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/penstock}"
# shellcheck disable=SC2034 # the scripts use it
CHILDREN="${CARGO_TARGET_DIR:-$HERE/../../target}/backends"

die() { printf '%s: %s\n' "$WHAT" "$1" >&2; exit 1; }
note() { printf '%s: %s\n' "$WHAT" "$1" >&2; }

# A failure of the caller's arguments, told apart from a failure of the backend.
wrong() { printf '%s: %s\nTry: %s --help\n' "$WHAT" "$1" "$0" >&2; exit 2; }

need_java() {
    command -v java >/dev/null && java -version >/dev/null 2>&1 ||
        die "java is missing: install a JDK of version 17 or later (Debian: openjdk-17-jdk-headless)"
}

# Sets JARS to the folder with the jars that $HERE/$WHAT/pom.xml names. Two fetches at once do
# no harm: each fills a folder of its own, and the first to finish gives it its name.
fetch() {
    JARS="$CACHE/$WHAT-$(cksum < "$HERE/$WHAT/pom.xml" | cut -d' ' -f1)"
    [ -d "$JARS" ] && return
    command -v mvn >/dev/null ||
        die "mvn is missing: install Maven (Debian: maven), it fetches the jars of $WHAT once"
    mkdir -p "$CACHE"
    local fresh="$JARS.$$"
    note "fetching the jars into $JARS"
    if ! mvn -q -B -f "$HERE/$WHAT/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$fresh" >"$fresh.out" 2>&1; then
        cat "$fresh.out" >&2
        rm -rf "$fresh" "$fresh.out"
        die "Maven could not fetch the jars"
    fi
    rm -f "$fresh.out"
    mv -T "$fresh" "$JARS" 2>/dev/null || mv "$fresh" "$JARS" 2>/dev/null || true
    rm -rf "$fresh"
    [ -d "$JARS" ] || die "the jars did not arrive in $JARS"
}

# When a process began, as text that is equal only for the same process. Empty if there is none.
began() {
    if [ -r "/proc/$1/stat" ]; then
        # The name may hold spaces and parentheses; what follows the last one is regular.
        sed -e 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'
    elif [ ! -d /proc/self ]; then
        ps -o lstart= -p "$1" 2>/dev/null || true
    fi
}

# Prints the process id that a pid file holds, if that very process still runs.
running() {
    local pid start
    [ -r "$1" ] && read -r pid start < "$1" && [ -n "$pid" ] && [ "$(began "$pid")" = "$start" ] && echo "$pid"
}

# launch PIDFILE LOG COMMAND...: starts a process that outlives this script and its terminal.
launch() {
    local pidfile="$1" log="$2" pid
    shift 2
    if command -v setsid >/dev/null; then set -- setsid "$@"; else set -- nohup "$@"; fi
    "$@" </dev/null >>"$log" 2>&1 &
    pid=$!
    disown
    printf '%s %s\n' "$pid" "$(began "$pid")" > "$pidfile"
    # A test that is killed cannot clean up; what it started then ends by itself.
    if [ -n "${OWNER:-}" ]; then
        (
            trap '' HUP
            while kill -0 "$OWNER" 2>/dev/null; do
                [ -n "$(running "$pidfile")" ] || exit 0
                sleep 2
            done
            pid="$(running "$pidfile")" && kill -KILL "$pid"
        ) </dev/null >/dev/null 2>&1 &
        disown
    fi
}

# end PIDFILE SIGNAL: signals the process and waits for its end, by force after 20 s.
end() {
    local pid left=200
    pid="$(running "$1")" || { rm -f "$1"; return 0; }
    kill "-$2" "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    while [ -n "$(running "$1")" ]; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { note "$pid does not end; killing it"; kill -KILL "$pid" 2>/dev/null || true; left=200; }
        sleep 0.1
    done
    rm -f "$1"
}

# signal PIDFILE SIGNAL NAME
signal() {
    local pid
    pid="$(running "$1")" || die "$3 does not run"
    kill "-$2" "$pid"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Prints a port that nobody listens on, from below the ports that systems give to clients.
free_port() {
    local port tries=0
    while [ "$tries" -lt 200 ]; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! answers "$port"; then echo "$port"; return; fi
        tries=$((tries + 1))
    done
    die "no free port between 20000 and 32000"
}

# wait_for SECONDS PIDFILE LOG COMMAND...: until the command succeeds, or the process is gone.
wait_for() {
    local left=$(($1 * 10)) pidfile="$2" log="$3"
    shift 3
    until "$@"; do
        if [ -z "$(running "$pidfile")" ]; then
            tail -n 30 "$log" >&2
            die "it ended while starting; all it said is in $log"
        fi
        left=$((left - 1))
        [ "$left" -gt 0 ] || { tail -n 30 "$log" >&2; die "it does not answer; what it says is in $log"; }
        sleep 0.1
    done
}
