#!/usr/bin/env bash
# Starts and stops one Apache Cassandra node for tests, from the jars on Maven Central.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
WHAT=cassandra
. "$HERE/lib.sh"

usage() {
    cat <<'U'
Usage: cassandra.sh COMMAND [OPTION]...

  fetch             fetch the jars, start nothing
  up                start the node and wait until it answers CQL; does nothing when it runs
  down              stop it; with --clean also remove its data
  env               print PENSTOCK_TEST_CQL=HOST:PORT
  stop              stop it with SIGTERM; with --kill SIGKILL
  start             start it again, on the same port and data, and wait until it answers
  pause, resume     SIGSTOP, SIGCONT
  status            one line

  --dir DIR         where data, log and process id are (default: target/backends/cassandra)
Only for the first `up` in a directory:
  --port P          the CQL port (default: a free one)
  --bench           3 GiB of heap and the collector that Cassandra's own options ask for, for measurements
  --owner PID       end when this process is gone
The node is alone; its datacenter is `datacenter1`. Anyone on this machine may log in.
U
}

COMMAND="${1:-}"
[ $# -gt 0 ] && shift
DIR="$CHILDREN/cassandra" PORT='' BENCH='' KILL='' CLEAN='' OWNER=''
while [ $# -gt 0 ]; do
    case "$1" in
        --dir) DIR="${2:?}"; shift ;;
        --port) PORT="${2:?}"; shift ;;
        --owner) OWNER="${2:?}"; shift ;;
        --bench) BENCH=1 ;;
        --kill) KILL=1 ;;
        --clean) CLEAN=1 ;;
        -h | --help) usage; exit 0 ;;
        *) wrong "unknown argument $1" ;;
    esac
    shift
done

known() { [ -r "$DIR/port" ] || die "nothing was ever started in $DIR: run up first"; PORT="$(cat "$DIR/port")"; }

# Asks in the native protocol for the options; a node that serves answers SUPPORTED.
serves() {
    answers "$PORT" || return 1
    local first
    first="$( (
        exec 3<>"/dev/tcp/127.0.0.1/$PORT" || exit
        printf '\004\000\000\000\005\000\000\000\000' >&3
        head -c 1 <&3 | od -An -tx1 | tr -d ' \n'
    ) 2>/dev/null)"
    [ "$first" = 84 ]
}

prepare() {
    local internal
    [ -n "$PORT" ] || PORT="$(free_port)"
    internal="$(free_port)"
    cat > "$DIR/cassandra.yaml" <<Y
cluster_name: penstock
num_tokens: 1
initial_token: "0"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
commitlog_sync: periodic
commitlog_sync_period: 10000ms
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
storage_port: $internal
ssl_storage_port: $(free_port)
rpc_address: 127.0.0.1
native_transport_port: $PORT
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:$internal"
hinted_handoff_enabled: false
auto_snapshot: false
# The formats that Cassandra's own cassandra_latest.yaml asks for: a quarter less CPU a row.
storage_compatibility_mode: NONE
memtable:
  configurations:
    default:
      class_name: TrieMemtable
memtable_allocation_type: offheap_objects
sstable:
  selected_format: bti
concurrent_compactors: 1
compaction_throughput: 8MiB/s
concurrent_reads: 8
concurrent_writes: 8
native_transport_max_threads: 8
Y
    [ -z "$BENCH" ] || echo 1 > "$DIR/bench"
    [ -z "$OWNER" ] || echo "$OWNER" > "$DIR/owner"
    echo "$PORT" > "$DIR/port"
}

launch_node() {
    local jvm=(-Xms1g -Xmx1g -XX:+UseSerialGC)
    [ -z "$(running "$DIR/pid")" ] || return 0
    # What Cassandra's own jvm17-server.options say of G1, with shorter pauses.
    [ ! -r "$DIR/bench" ] || jvm=(-Xms3g -Xmx3g -XX:+UseG1GC -XX:+ParallelRefProcEnabled -XX:MaxTenuringThreshold=2
        -XX:G1HeapRegionSize=16m -XX:+UnlockExperimentalVMOptions -XX:G1NewSizePercent=50
        -XX:G1RSetUpdatingPauseTimePercent=5 -XX:MaxGCPauseMillis=100 -XX:InitiatingHeapOccupancyPercent=70)
    [ ! -r "$DIR/owner" ] || OWNER="$(cat "$DIR/owner")"
    jvm+=("@$HERE/cassandra/jvm.options" -javaagent:"$(echo "$JARS"/jamm-*.jar)"
        -Dlogback.configurationFile="$HERE/cassandra/logback.xml" -Dcassandra.config="file://$DIR/cassandra.yaml"
        -Dcassandra.storagedir="$DIR/data")
    launch "$DIR/pid" "$DIR/log" java "${jvm[@]}" -cp "$JARS/*" org.apache.cassandra.service.CassandraDaemon
}

case "$COMMAND" in
    fetch) fetch; echo "$JARS" ;;
    up | start)
        need_java
        fetch
        [ "$COMMAND" = up ] || known
        mkdir -p "$DIR"
        DIR="$(cd "$DIR" && pwd)"
        if [ -r "$DIR/port" ]; then PORT="$(cat "$DIR/port")"; else prepare; fi
        launch_node
        wait_for 90 "$DIR/pid" "$DIR/log" serves
        [ "$COMMAND" = start ] || echo "PENSTOCK_TEST_CQL=127.0.0.1:$PORT"
        ;;
    down)
        if [ -r "$DIR/port" ]; then
            end "$DIR/pid" "$([ -n "$CLEAN" ] && echo KILL || echo TERM)"
            if [ -n "$CLEAN" ]; then
                rm -rf "${DIR:?}/data"
                rm -f "$DIR/bench" "$DIR/owner" "$DIR/log" "$DIR/cassandra.yaml" "$DIR/port"
                rmdir "$DIR" 2>/dev/null || true
            fi
        fi
        ;;
    env) known; echo "PENSTOCK_TEST_CQL=127.0.0.1:$PORT" ;;
    stop) known; end "$DIR/pid" "$([ -n "$KILL" ] && echo KILL || echo TERM)" ;;
    pause) known; signal "$DIR/pid" STOP "the node" ;;
    resume) known; signal "$DIR/pid" CONT "the node" ;;
    status)
        known
        pid="$(running "$DIR/pid")" && echo "cassandra: 127.0.0.1:$PORT, process $pid" || echo "cassandra: stopped" ;;
    -h | --help | help) usage ;;
    '') usage >&2; exit 2 ;;
    *) wrong "unknown command $COMMAND" ;;
esac
