#!/usr/bin/env bash
# Stands in for the image of ScyllaDB: Apache Cassandra, which speaks the same CQL, alone, on the
# container's own address as ScyllaDB does.
set -euo pipefail

ADDRESS="$(hostname -i)"
mkdir -p /etc/cassandra
cat > /etc/cassandra/cassandra.yaml <<Y
cluster_name: penstock
num_tokens: 1
initial_token: "0"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
commitlog_sync: periodic
commitlog_sync_period: 10000ms
endpoint_snitch: SimpleSnitch
listen_address: ${ADDRESS%% *}
rpc_address: ${ADDRESS%% *}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "${ADDRESS%% *}:7000"
hinted_handoff_enabled: false
auto_snapshot: false
memtable_heap_space: 256MiB
memtable_offheap_space: 256MiB
Y
exec java -Xms1g -Xmx1g -XX:+UseSerialGC @/backends/cassandra/jvm.options \
    -javaagent:"$(echo /opt/cassandra/lib/jamm-*.jar)" -Dlogback.configurationFile=/backends/cassandra/logback.xml \
    -Dcassandra.config=file:///etc/cassandra/cassandra.yaml -Dcassandra.storagedir=/var/lib/scylla \
    -cp '/opt/cassandra/lib/*' org.apache.cassandra.service.CassandraDaemon
