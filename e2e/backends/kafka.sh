#!/usr/bin/env bash
# Starts and stops Apache Kafka for tests, from the jars on Maven Central.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
WHAT=kafka
. "$HERE/lib.sh"

usage() {
    cat <<'U'
Usage: kafka.sh COMMAND [OPTION]...

  fetch             fetch the jars, start nothing
  up                start the brokers and wait until groups and transactions work;
                    does nothing when they run already
  down              stop them; with --clean also remove their data
  env               print PENSTOCK_TEST_KAFKA=HOST:PORT,... and, with --tls, PENSTOCK_TEST_KAFKA_TLS
                    and PENSTOCK_TEST_KAFKA_CA
  stop [N]          stop broker N (or all) with SIGTERM; with --kill SIGKILL
  start [N]         start it (them) again, on the same port and data, and wait until the
                    port answers; with --no-wait, do not wait
  pause [N]         SIGSTOP
  resume [N]        SIGCONT
  status            one line for each broker
  tool CLASS ARG... run a class of org.apache.kafka.tools, such as TopicCommand; an option of
                    this script goes before the class

  --dir DIR         where data, logs and process ids are (default: target/backends/kafka)
Only for the first `up` in a directory:
  --brokers N       1 (default) or 3; three have replicated internal topics with two in sync
  --port P          the first broker's port, the next ones follow it (default: free ones)
  --fast            groups form at once (group.initial.rebalance.delay.ms=0)
  --tls             another listener with TLS, whose certificate stands in DIR/ca.pem, and SASL:
                    SCRAM-SHA-512 and PLAIN with the user penstock and the password secret-word
  --bench           the JVM's default compilers, for measurements
  --set KEY=VALUE   a broker setting; may be repeated
  --owner PID       end when this process is gone
Settings that are not named keep Kafka's defaults, so that times are those of production.

Example: kafka.sh up --brokers 3 --dir /tmp/three && kafka.sh stop 2 --kill --dir /tmp/three
U
}

# Of a key store that lies beside its own password, in a broker for tests.
STOREPASS=only-for-tests

COMMAND="${1:-}"
[ $# -gt 0 ] && shift
DIR="$CHILDREN/kafka" BROKERS=1 PORT='' FAST='' TLS='' BENCH='' KILL='' CLEAN='' NOWAIT='' OWNER='' WHICH=''
SETTINGS=() REST=()
while [ $# -gt 0 ]; do
    case "$1" in
        --dir) DIR="${2:?}"; shift ;;
        --brokers) BROKERS="${2:?}"; shift ;;
        --port) PORT="${2:?}"; shift ;;
        --set) SETTINGS+=("${2:?}"); shift ;;
        --owner) OWNER="${2:?}"; shift ;;
        --fast) FAST=1 ;;
        --tls) TLS=1 ;;
        --bench) BENCH=1 ;;
        --kill) KILL=1 ;;
        --clean) CLEAN=1 ;;
        --no-wait) NOWAIT=1 ;;
        -h | --help) usage; exit 0 ;;
        *)
            if [ "$COMMAND" = tool ]; then REST=("$@"); break; fi
            case "$1" in [1-9]) WHICH="$1" ;; *) wrong "unknown argument $1" ;; esac ;;
    esac
    shift
done
[[ "$BROKERS" =~ ^[1-9]$ ]] || wrong "--brokers takes a number from 1 to 9, not $BROKERS"

# The brokers of the directory, and one broker's files and port.
known() { [ -r "$DIR/brokers" ] || die "nothing was ever started in $DIR: run up first"; BROKERS="$(cat "$DIR/brokers")"; }
chosen() {
    known
    [ -z "$WHICH" ] && { seq 1 "$BROKERS"; return; }
    [ "$WHICH" -le "$BROKERS" ] || wrong "there is no broker $WHICH, only $BROKERS"
    echo "$WHICH"
}
port() { sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\),.*|\1|p' "$DIR/$1/server.properties"; }
servers() {
    local n list=''
    for n in $(seq 1 "$BROKERS"); do list="$list,127.0.0.1:$(port "$n")"; done
    echo "${list#,}"
}
secure_servers() {
    local n list=''
    for n in $(seq 1 "$BROKERS"); do
        list="$list,$(sed -n 's|^listeners=.*SASL_SSL://\(127.0.0.1:[0-9]*\).*|\1|p' "$DIR/$n/server.properties")"
    done
    echo "${list#,}"
}
told() {
    echo "PENSTOCK_TEST_KAFKA=$(servers)"
    [ ! -r "$DIR/ca.pem" ] || printf 'PENSTOCK_TEST_KAFKA_TLS=%s\nPENSTOCK_TEST_KAFKA_CA=%s\n' "$(secure_servers)" "$DIR/ca.pem"
}

# A key for this machine's own address, which vouches for itself.
certificate() {
    local tool=(keytool -alias broker -keystore "$DIR/broker.p12" -storetype PKCS12 -storepass "$STOREPASS")
    "${tool[@]}" -genkeypair -keyalg EC -groupname secp256r1 -validity 30 -dname CN=localhost \
        -ext san=ip:127.0.0.1,dns:localhost -ext bc:critical=ca:true > "$DIR/keytool.log" 2>&1 &&
        "${tool[@]}" -exportcert -rfc > "$DIR/ca.pem" 2>> "$DIR/keytool.log" ||
        { cat "$DIR/keytool.log" >&2; die "could not make a certificate"; }
}

# The settings of the listener with TLS.
secure() {
    local modules=org.apache.kafka.common.security of=listener.name.sasl_ssl
    echo "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL"
    echo "inter.broker.listener.name=PLAINTEXT"
    echo "ssl.keystore.type=PKCS12"
    echo "ssl.keystore.location=$DIR/broker.p12"
    echo "ssl.keystore.password=$STOREPASS"
    echo "sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN"
    echo "$of.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;"
    echo "$of.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_penstock=\"secret-word\";"
}

# Writes every broker's settings and formats its directory, once.
prepare() {
    local n setting voters='' ports=() copies=1 insync=1 quorum=() listeners users=()
    [ "$BROKERS" -ge 3 ] && copies=3 insync=2
    for n in $(seq 1 "$BROKERS"); do
        if [ -n "$PORT" ]; then ports+=($((PORT + n - 1))); else ports+=("$(free_port)"); fi
        quorum+=("$(free_port)")
        voters="$voters,$n@127.0.0.1:${quorum[n - 1]}"
    done
    if [ -n "$TLS" ]; then
        certificate
        users=(--add-scram 'SCRAM-SHA-512=[name=penstock,password=secret-word]')
    fi
    local id
    id="$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c1-22)"
    for n in $(seq 1 "$BROKERS"); do
        mkdir -p "$DIR/$n"
        listeners="PLAINTEXT://127.0.0.1:${ports[n - 1]},CONTROLLER://127.0.0.1:${quorum[n - 1]}"
        [ -z "$TLS" ] || listeners="$listeners,SASL_SSL://127.0.0.1:$(free_port)"
        {
            echo "process.roles=broker,controller"
            echo "node.id=$n"
            echo "controller.quorum.voters=${voters#,}"
            echo "listeners=$listeners"
            echo "controller.listener.names=CONTROLLER"
            echo "log.dirs=$DIR/$n/data"
            echo "auto.create.topics.enable=false"
            # Fewer than the default 50 partitions, which only make the start slow.
            echo "offsets.topic.num.partitions=3"
            echo "transaction.state.log.num.partitions=3"
            echo "share.coordinator.state.topic.num.partitions=1"
            for setting in offsets.topic transaction.state.log share.coordinator.state.topic; do
                echo "$setting.replication.factor=$copies"
            done
            echo "transaction.state.log.min.isr=$insync"
            echo "share.coordinator.state.topic.min.isr=$insync"
            [ "$BROKERS" -lt 3 ] || echo "min.insync.replicas=$insync"
            [ -z "$TLS" ] || secure
            [ -z "$FAST" ] || echo "group.initial.rebalance.delay.ms=0"
            for setting in ${SETTINGS[@]+"${SETTINGS[@]}"}; do echo "$setting"; done
        } > "$DIR/$n/server.properties"
        java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.level=ERROR -cp "$JARS/*" kafka.tools.StorageTool \
            format -t "$id" -c "$DIR/$n/server.properties" ${users[@]+"${users[@]}"} > "$DIR/$n/format.log" 2>&1 ||
            { cat "$DIR/$n/format.log" >&2; die "could not format $DIR/$n/data"; }
    done
    [ -z "$BENCH" ] || echo 1 > "$DIR/bench"
    [ -z "$OWNER" ] || echo "$OWNER" > "$DIR/owner"
    echo "$BROKERS" > "$DIR/brokers"
}

launch_broker() {
    local jvm=(-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1)
    [ -n "$(running "$DIR/$1/pid")" ] && return
    [ ! -r "$DIR/bench" ] || jvm=(-Xmx1g -Xms1g)
    [ ! -r "$DIR/owner" ] || OWNER="$(cat "$DIR/owner")"
    launch "$DIR/$1/pid" "$DIR/$1/log" java "${jvm[@]}" \
        -Dlog4j2.configurationFile="$HERE/kafka/log4j2.properties" \
        -cp "$JARS/*" kafka.Kafka "$DIR/$1/server.properties"
}

# The probe is compiled once, beside the jars.
probe() {
    local classes
    classes="$JARS.probe-$(cksum < "$HERE/kafka/Probe.java" | cut -d' ' -f1)"
    if [ ! -d "$classes" ]; then
        command -v javac >/dev/null || die "javac is missing: a JDK is needed, not only a JRE"
        javac -cp "$JARS/*" -d "$classes.$$" "$HERE/kafka/Probe.java"
        mv -T "$classes.$$" "$classes" 2>/dev/null || rm -rf "$classes.$$"
    fi
    java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.apache.logging.log4j.level=OFF -Dlog4j2.level=OFF \
        -cp "$classes:$JARS/*" Probe "$(servers)" "$BROKERS" 60 2>"$DIR/probe.log" ||
        { cat "$DIR/probe.log" >&2; die "the brokers started but do not serve; see $DIR/*/log"; }
}

case "$COMMAND" in
    fetch) fetch; echo "$JARS" ;;
    up)
        need_java
        fetch
        mkdir -p "$DIR"
        DIR="$(cd "$DIR" && pwd)"
        if [ -r "$DIR/brokers" ]; then
            BROKERS="$(cat "$DIR/brokers")"
            alive=0
            for n in $(seq 1 "$BROKERS"); do [ -z "$(running "$DIR/$n/pid")" ] || alive=$((alive + 1)); done
            [ "$alive" -lt "$BROKERS" ] || { told; exit 0; }
        else
            prepare
        fi
        for n in $(seq 1 "$BROKERS"); do launch_broker "$n"; done
        for n in $(seq 1 "$BROKERS"); do wait_for 60 "$DIR/$n/pid" "$DIR/$n/log" answers "$(port "$n")"; done
        probe
        told
        ;;
    down)
        if [ -r "$DIR/brokers" ]; then
            known
            # All at once: the last broker of a quorum waits in vain for the others.
            for n in $(seq 1 "$BROKERS"); do end "$DIR/$n/pid" "$([ -n "$CLEAN" ] && echo KILL || echo TERM)" & done
            wait
        fi
        if [ -n "$CLEAN" ] && [ -r "$DIR/brokers" ]; then
            for n in $(seq 1 "$BROKERS"); do rm -rf "${DIR:?}/$n"; done
            rm -f "$DIR/bench" "$DIR/owner" "$DIR/ca.pem" "$DIR/broker.p12" "$DIR/keytool.log" "$DIR/probe.log" "$DIR/brokers"
            rmdir "$DIR" 2>/dev/null || true
        fi
        ;;
    env) known; told ;;
    stop | stop-broker)
        for n in $(chosen); do end "$DIR/$n/pid" "$([ -n "$KILL" ] && echo KILL || echo TERM)" & done
        wait ;;
    start | start-broker)
        need_java
        fetch
        brokers="$(chosen)"
        for n in $brokers; do launch_broker "$n"; done
        [ -n "$NOWAIT" ] || for n in $brokers; do wait_for 60 "$DIR/$n/pid" "$DIR/$n/log" answers "$(port "$n")"; done ;;
    pause) for n in $(chosen); do signal "$DIR/$n/pid" STOP "broker $n"; done ;;
    resume) for n in $(chosen); do signal "$DIR/$n/pid" CONT "broker $n"; done ;;
    status)
        for n in $(chosen); do
            pid="$(running "$DIR/$n/pid")" && echo "broker $n: 127.0.0.1:$(port "$n"), process $pid" || echo "broker $n: stopped"
        done ;;
    tool)
        need_java
        fetch
        known
        [ "${#REST[@]}" -gt 0 ] || wrong "name a class, such as TopicCommand"
        exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.level=ERROR -cp "$JARS/*" \
            "org.apache.kafka.tools.${REST[0]}" --bootstrap-server "$(servers)" "${REST[@]:1}" ;;
    -h | --help | help) usage ;;
    '') usage >&2; exit 2 ;;
    *) wrong "unknown command $COMMAND" ;;
esac
