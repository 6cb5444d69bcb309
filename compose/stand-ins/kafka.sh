#!/usr/bin/env bash
# Stands in for the start script of the image apache/kafka: the wrapper that Kafka ships for that
# image turns the same KAFKA_* variables into settings and formats the same directory.
set -euo pipefail

mkdir -p /opt/kafka/defaults /opt/kafka/mounted /opt/kafka/config
for file in server.properties log4j2.yaml tools-log4j2.yaml; do echo > "/opt/kafka/defaults/$file"; done
java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' kafka.docker.KafkaDockerWrapper setup \
    --default-configs-dir /opt/kafka/defaults --mounted-configs-dir /opt/kafka/mounted \
    --final-configs-dir /opt/kafka/config
# shellcheck disable=SC2086 # the variable holds several options
exec java ${KAFKA_HEAP_OPTS:-} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dlog4j2.configurationFile=/backends/kafka/log4j2.properties \
    -cp '/opt/kafka/libs/*' kafka.Kafka /opt/kafka/config/server.properties
